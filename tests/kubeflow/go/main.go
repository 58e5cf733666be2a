// What Kubeflow Pipelines' own server makes of our packages, without a server.
//
//	compiler workflow PACKAGE.yaml PARAMETERS.json
//	compiler condition EXECUTOR_INPUT.json EXPRESSION
//
// The first does what the API server does when a run is created: it reads both documents of the package, checks the
// run's parameters, compiles the Argo Workflow, has Argo validate it, and prints it as JSON. The second prints what the
// driver of a task finds when it evaluates the task's condition.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/kubeflow/pipelines/api/v2alpha1/go/pipelinespec"
	"github.com/kubeflow/pipelines/backend/src/apiserver/config/proxy"
	"github.com/kubeflow/pipelines/backend/src/apiserver/model"
	"github.com/kubeflow/pipelines/backend/src/apiserver/template"
	"github.com/kubeflow/pipelines/backend/src/v2/expression"
	"google.golang.org/protobuf/encoding/protojson"
)

const usage = "usage: compiler workflow PACKAGE.yaml PARAMETERS.json | compiler condition EXECUTOR_INPUT.json EXPRESSION"

func main() {
	output, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(output)
}

func run(arguments []string) (string, error) {
	if len(arguments) != 3 {
		return "", errors.New(usage)
	}
	text, err := os.ReadFile(arguments[1])
	if err != nil {
		return "", err
	}
	switch arguments[0] {
	case "workflow":
		return workflow(text, arguments[2])
	case "condition":
		return condition(text, arguments[2])
	}
	return "", errors.New(usage)
}

// workflow returns the Argo Workflow of a run of the package, as JSON.
func workflow(text []byte, parametersFile string) (string, error) {
	parameters, err := os.ReadFile(parametersFile)
	if err != nil {
		return "", err
	}
	// The compiler panics without.
	proxy.InitializeConfigWithEnv()
	compiled, err := template.New(text, template.TemplateOptions{})
	if err != nil {
		return "", err
	}
	request := &model.Run{DisplayName: "run", Namespace: "kubeflow"}
	request.RuntimeConfig.Parameters = model.LargeText(parameters)
	execution, err := compiled.RunWorkflow(request, template.RunWorkflowOptions{RunID: "run-id"})
	if err != nil {
		return "", err
	}
	if err := execution.Validate(false, false); err != nil {
		return "", fmt.Errorf("argo refuses the workflow: %w", err)
	}
	return execution.ToStringForStore(), nil
}

// condition returns "true" or "false".
func condition(text []byte, expressionText string) (string, error) {
	input := &pipelinespec.ExecutorInput{}
	if err := protojson.Unmarshal(text, input); err != nil {
		return "", err
	}
	evaluator, err := expression.New()
	if err != nil {
		return "", err
	}
	holds, err := evaluator.Condition(input, expressionText)
	if err != nil {
		return "", err
	}
	return fmt.Sprint(holds), nil
}
