module knarr.test/conformance

go 1.19

require (
	github.com/opencontainers/image-spec v1.1.1
	github.com/opencontainers/runtime-spec v1.2.1
)
