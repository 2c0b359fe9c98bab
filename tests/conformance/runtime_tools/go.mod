// runtime-tools' last release has no go.mod of its own and compiles against runtime-spec 1.0 only, while the JSON
// schemas in ../go.mod are a newer release's: one module has one version of a package, so this is another module.
module knarr.test/conformance/runtime_tools

go 1.19

require (
	github.com/blang/semver v3.5.1+incompatible
	github.com/hashicorp/go-multierror v1.1.1
	github.com/mndrix/tap-go v0.0.0-20171203230836-629fa407e90b
	github.com/mrunalp/fileutils v0.5.0
	github.com/opencontainers/runtime-spec v1.0.2
	github.com/opencontainers/runtime-tools v0.9.0
	github.com/opencontainers/selinux v1.2.2
	github.com/satori/go.uuid v1.1.0
	github.com/sirupsen/logrus v1.8.1
	github.com/syndtr/gocapability v0.0.0-20200815063812-42c35b437635
	github.com/urfave/cli v1.19.1
	github.com/xeipuuv/gojsonschema v1.2.0
	golang.org/x/sys v0.1.0
)

// What those need, by name, so that `go mod download` fetches all of it.
require (
	github.com/hashicorp/errwrap v1.0.0 // indirect
	github.com/xeipuuv/gojsonpointer v0.0.0-20180127040702-4e3ac2762d5f // indirect
	github.com/xeipuuv/gojsonreference v0.0.0-20180127040603-bd5ef7bd5415 // indirect
)
