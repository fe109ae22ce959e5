"""The manifests for Kubernetes: its own schemas take them, and what they say of tinyinit is so. No cluster is asked.

The schemas know fields and types, not which words and numbers the API server takes; those are looked at here.
"""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions

from tinyinit.init import EXIT_CANNOT, EXIT_NOT_FOUND, EXIT_NOT_RUNNABLE, EXIT_SIGNAL_BASE, Options
from tinyinit.limits import EXIT_TIMED_OUT
from tinyinit.options import parse_options

FOLDER = Path(__file__).parent / "kubernetes"
README = (FOLDER.parent.parent / "README.md").read_text()
MANIFESTS = sorted(path.name for path in FOLDER.glob("*.yaml"))
OLDEST = (1, 31)  # podFailurePolicy is stable from here on
VERSIONS = sorted({version for version in all_versions() if tuple(map(int, version.split(".")[:2])) >= OLDEST})
WORST = [EXIT_TIMED_OUT, EXIT_CANNOT, EXIT_NOT_RUNNABLE, EXIT_NOT_FOUND]  # what another try does not change
MESSAGE, ALL_MESSAGES = 4096, 12 * 1024  # bytes that the kubelet keeps: for a container, and for all of a pod's
MORE_GRACES = 1  # that tinyinit waits at most for what KILL does not end


def load(name: str) -> dict[str, Any]:
    """A manifest."""
    return parse((FOLDER / name).read_text())


def parse(text: str) -> dict[str, Any]:
    """A manifest from its text, which is that of one object."""
    manifest: dict[str, Any] = yaml.safe_load(text)
    return manifest


def pod(manifest: dict[str, Any]) -> dict[str, Any]:
    """The specification of its pods."""
    spec: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return spec


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """All containers of a pod, sidecars too."""
    return [*spec.get("initContainers", []), *spec["containers"]]


def find_tinyinit(manifest: dict[str, Any]) -> dict[str, Any]:
    """The one container that tinyinit is the entrypoint of."""
    (found,) = (each for each in containers(pod(manifest)) if each["command"][0] == "tinyinit")
    return found


def read_options(manifest: dict[str, Any]) -> tuple[Options, list[str]]:
    """The options and COMMAND, as tinyinit reads them from the manifest's words and variables."""
    container = find_tinyinit(manifest)
    words = [*container["command"][1:], *container.get("args", [])]
    environ = {each["name"].encode(): each["value"].encode() for each in container.get("env", [])}
    return parse_options(words, environ)


# ---- the schemas ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", MANIFESTS)
def test_the_schemas_take_it(name: str, version: str) -> None:
    assert version.startswith(kubernetes_validate.validate(load(name), version, strict=True) + ".")


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
@pytest.mark.parametrize(
    ("name", "right", "wrong", "message"),
    [
        ("job.yaml", "backoffLimit:", "backofLimit:", r"'backofLimit' was unexpected"),
        ("job.yaml", "onExitCodes:", "onExitCode:", r"'onExitCode' was unexpected"),
        ("job.yaml", "shareProcessNamespace:", "sharePidNamespace:", r"'sharePidNamespace' was unexpected"),
        ("job.yaml", "PeriodSeconds: ", "PeriodSeconds: about ", r"'about 40' is not of type 'integer'"),
        ("job.yaml", "          operator: In\n", "", r"'operator' is a required property"),
        ("deployment.yaml", "drop: [ALL]", "drop: ALL", r"'ALL' is not of type 'array'"),
        ("deployment.yaml", "terminationMessagePolicy:", "terminationPolicy:", r"'terminationPolicy' was unexpected"),
        ("deployment.yaml", " seconds:", " second:", r"'seconds' is a required property"),
    ],
)
def test_the_schemas_refuse_what_is_wrong(name: str, right: str, wrong: str, message: str, version: str) -> None:
    """So the test above can fail."""
    text = (FOLDER / name).read_text()
    assert right in text
    with pytest.raises(kubernetes_validate.ValidationError, match=message):
        kubernetes_validate.validate(parse(text.replace(right, wrong)), version, strict=True)


def test_the_failure_policy_is_one_that_the_api_server_takes() -> None:
    manifest = load("job.yaml")
    names = [each["name"] for each in containers(pod(manifest))]
    assert pod(manifest)["restartPolicy"] == "Never"
    for rule in manifest["spec"]["podFailurePolicy"]["rules"]:
        assert rule["action"] in ("Count", "FailJob", "Ignore")
        assert ("onExitCodes" in rule) != ("onPodConditions" in rule)
        for condition in rule.get("onPodConditions", []):
            assert condition["status"] in ("True", "False", "Unknown")
        if "onExitCodes" in rule:
            values = rule["onExitCodes"]["values"]
            assert values == sorted(set(values))
            assert (rule["onExitCodes"]["operator"], 0 in values) == ("In", False)
            assert rule["onExitCodes"]["containerName"] in names


def test_the_deployment_selects_its_own_pods() -> None:
    spec = load("deployment.yaml")["spec"]
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_container_is_as_restricted_as_can_be(name: str) -> None:
    spec = pod(load(name))
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(spec):
        context = container["securityContext"]
        assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]


# ---- what they say of tinyinit --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MANIFESTS)
def test_tinyinit_accepts_the_command_line(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    manifest = load(name)
    options, command = read_options(manifest)
    assert command == find_tinyinit(manifest)["args"]
    assert (options.show, capfd.readouterr().err) == ("", "")


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_kubelet_waits_longer_than_tinyinit_takes(name: str) -> None:
    manifest = load(name)
    options, _ = read_options(manifest)
    assert options.kill_after is not None
    hook = find_tinyinit(manifest).get("lifecycle", {}).get("preStop", {"sleep": {"seconds": 0}})
    took = hook["sleep"]["seconds"] + options.kill_after + (1 + MORE_GRACES) * options.grace
    assert pod(manifest)["terminationGracePeriodSeconds"] > took


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_message_is_written_where_the_kubelet_reads_it(name: str) -> None:
    manifest = load(name)
    options, _ = read_options(manifest)
    container = find_tinyinit(manifest)
    assert container["terminationMessagePath"] == options.termination_log == "/dev/termination-log"
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert len(containers(pod(manifest))) * MESSAGE <= ALL_MESSAGES, "it would be cut"


def test_the_exit_codes_of_the_failure_policy_are_ours() -> None:
    manifest = load("job.yaml")
    options, _ = read_options(manifest)
    disruption, *others = manifest["spec"]["podFailurePolicy"]["rules"]
    assert disruption == {
        "action": "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }
    assert [(each["action"], each["onExitCodes"]["values"]) for each in others] == [
        ("FailJob", WORST),
        ("Count", [EXIT_SIGNAL_BASE + signal.SIGKILL]),
    ]
    assert {each["onExitCodes"]["containerName"] for each in others} == {find_tinyinit(manifest)["name"]}
    assert options.oom_is_failure


def test_none_of_the_readme_is_missing_there() -> None:
    table = README.split("\n## Exit status\n")[1].split("\n## ")[0]
    assert [int(code) for code in re.findall(r"\| (12\d)\b(?! \+)", table)] == WORST


def test_tinyinits_timeout_is_over_before_kubernetes_own() -> None:
    manifest = load("job.yaml")
    options, _ = read_options(manifest)
    spec = manifest["spec"]
    assert (1 + spec["backoffLimit"]) * options.timeout < spec["activeDeadlineSeconds"]


def test_the_job_is_beside_a_sidecar_in_one_pid_namespace() -> None:
    spec = pod(load("job.yaml"))
    (sidecar,), (job,) = spec["initContainers"], spec["containers"]
    assert spec["shareProcessNamespace"]
    assert sidecar["restartPolicy"] == "Always"
    assert "tinyinit" not in sidecar["command"]
    assert job == find_tinyinit(load("job.yaml"))
    assert sidecar["securityContext"]["runAsUser"] != spec["securityContext"]["runAsUser"]
    assert not {"livenessProbe", "readinessProbe", "startupProbe"} & job.keys()


def test_the_server_is_pid_1_and_probed() -> None:
    spec = pod(load("deployment.yaml"))
    assert not spec.get("shareProcessNamespace", False)
    assert {"livenessProbe", "readinessProbe", "startupProbe"} <= find_tinyinit(load("deployment.yaml")).keys()
