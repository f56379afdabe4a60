// Command push copies the image of an OCI archive to a registry, and prints its digest. Credentials
// are those that other clients use: Docker's config.json with its helpers, or podman's auth.json.
//
//	push [-plain] ARCHIVE HOST/PATH:TAG
//
// Registries are asked over TLS. With -plain, loopback ones may answer over plain HTTP.
package main

import (
	"archive/tar"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

func main() {
	plain := flag.Bool("plain", false, "let a loopback registry answer over plain HTTP")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "push [-plain] ARCHIVE HOST/PATH:TAG")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	digest, err := push(ctx, flag.Arg(0), flag.Arg(1), *plain)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(digest)
}

func push(ctx context.Context, archive, reference string, plain bool) (v1.Hash, error) {
	to, err := name.NewTag(reference, name.StrictValidation)
	if err != nil {
		return v1.Hash{}, err
	}
	dir, err := os.MkdirTemp("", "push-")
	if err != nil {
		return v1.Hash{}, err
	}
	defer os.RemoveAll(dir)
	if err := unpack(archive, dir); err != nil {
		return v1.Hash{}, fmt.Errorf("%s: %w", archive, err)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("%s is no OCI archive: %w", archive, err)
	}
	options := []remote.Option{
		remote.WithContext(ctx),
		remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithTransport(guard{remote.DefaultTransport, plain}),
		remote.WithUserAgent("postern-push"),
	}
	digest, err := write(to, index, options)
	var answer *transport.Error
	if errors.As(err, &answer) {
		switch answer.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			return digest, fmt.Errorf("not allowed (%d): log in first, for example with docker login %s",
				answer.StatusCode, to.RegistryStr())
		}
	}
	return digest, err
}

// write pushes the one image, or the one list of images, that an archive holds.
func write(to name.Tag, archive v1.ImageIndex, options []remote.Option) (v1.Hash, error) {
	listed, err := archive.IndexManifest()
	if err != nil {
		return v1.Hash{}, err
	}
	if len(listed.Manifests) != 1 {
		return v1.Hash{}, fmt.Errorf("the archive holds %d images, not one", len(listed.Manifests))
	}
	held := listed.Manifests[0]
	if held.MediaType.IsIndex() {
		list, err := archive.ImageIndex(held.Digest)
		if err != nil {
			return v1.Hash{}, err
		}
		return held.Digest, remote.WriteIndex(to, list, options...)
	}
	image, err := archive.Image(held.Digest)
	if err != nil {
		return v1.Hash{}, err
	}
	return held.Digest, remote.Write(to, image, options...)
}

// guard keeps requests, with the credentials in them, off plain HTTP. The library itself would also
// use it for private networks and names below .local.
type guard struct {
	inner http.RoundTripper
	plain bool
}

func (g guard) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.URL.Scheme != "https" && !(g.plain && isLoopback(request.URL.Hostname())) {
		return nil, fmt.Errorf("%s would be asked over plain HTTP, which is for loopback registries alone",
			request.URL.Host)
	}
	return g.inner.RoundTrip(request)
}

func isLoopback(host string) bool {
	address := net.ParseIP(host)
	return host == "localhost" || address != nil && address.IsLoopback()
}

// unpack takes the files of a tar. What would leave the folder is an error.
func unpack(archive, into string) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer file.Close()
	root, err := os.OpenRoot(into)
	if err != nil {
		return err
	}
	defer root.Close()
	entries := tar.NewReader(file)
	for {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if header.Typeflag == tar.TypeReg {
			if err := save(root, header.Name, entries); err != nil {
				return err
			}
		}
	}
}

func save(root *os.Root, path string, from io.Reader) error {
	path = filepath.Clean(path)
	if err := root.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	to, err := root.Create(path)
	if err != nil {
		return err
	}
	if _, err := io.Copy(to, from); err != nil {
		return errors.Join(err, to.Close())
	}
	return to.Close()
}
