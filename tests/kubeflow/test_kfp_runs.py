from pipeline.kubeflow.kfp_runs import container_tasks


def test_tasks_of_sub_dags_count_and_importers_do_not():
    spec = {
        "deploymentSpec": {"executors": {"run": {"container": {}}, "import": {"importer": {}}}},
        "components": {
            "node": {"executorLabel": "run"},
            "importer": {"executorLabel": "import"},
            "guarded": {"dag": {"tasks": {"Trainer": {"componentRef": {"name": "node"}}}}},
        },
        "root": {
            "dag": {
                "tasks": {
                    "ExampleGen": {"componentRef": {"name": "node"}},
                    "champion": {"componentRef": {"name": "importer"}},
                    "condition": {"componentRef": {"name": "guarded"}},
                }
            }
        },
    }
    assert container_tasks(spec) == {"ExampleGen", "Trainer"}


def test_real_packages_have_their_nodes(specs):
    tasks = container_tasks(specs["warm"][0])
    assert {"ExampleGen", "DriftGate", "Trainer", "Pusher", "record", "record-blocked"} <= tasks
    assert not {task for task in tasks if "import" in task.lower() and task != "ImportSchemaGen"}
