module moontide/tests/cluster/helmsman

go 1.24.0

require (
	github.com/Masterminds/semver v1.5.0
	gopkg.in/yaml.v3 v3.0.1
)
