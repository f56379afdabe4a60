//go:build crds

package main

// Nothing is taken from this package: the import keeps the module in go.mod, whose folder holds
// the Gateway API's CRDs that the driver installs.
import _ "sigs.k8s.io/gateway-api/pkg/consts"
