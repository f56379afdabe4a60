# Every target is a thin call: what it does stands in xtask and .ci/run.
.PHONY: run stop try test check bench gen

run:
	@cargo xtask run

stop:
	@cargo xtask stop

try:
	@cargo xtask try

test:
	@cargo xtask test

check:
	@cargo xtask check

bench:
	@cargo xtask bench

gen:
	@cargo xtask gen
