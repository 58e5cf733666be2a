// Kubeflow Pipelines 2.16.1, the release of the SDK in requirements/current.lock. KFP replaces its modules `api` and
// `kubernetes_platform` by folders of its own, which only holds for its main module: here they get the same commit.
module perennial/tests/kubeflow/compiler

go 1.24.10

require (
	github.com/kubeflow/pipelines v0.0.0-20260504234626-67a73cf809f7
	github.com/kubeflow/pipelines/api v0.0.0-20260504234626-67a73cf809f7
	github.com/kubeflow/pipelines/kubernetes_platform v0.0.0-20260504234626-67a73cf809f7
	google.golang.org/protobuf v1.36.10
)
