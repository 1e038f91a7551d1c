"""What is deployed: Ray's own validator and its AWS provider on the cluster files, Kubernetes' own schema on
the manifests, and the promises that none of them knows: no secret, no public door, one version, a head that
trains nothing, a bounded bill."""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from distmer import __version__

ROOT = Path(__file__).parents[2]
CLUSTERS = ["cluster.yaml", "deploy/gcp.yaml"]
POLICIES = sorted((ROOT / "deploy" / "aws").glob("*.json"))
DEPLOYED = [*CLUSTERS, "Dockerfile", "deploy/kuberay/raycluster.yaml", "deploy/kuberay/rayjob.yaml"]
DEPLOYED += ["mlflow/compose.yaml", "mlflow/Dockerfile", "mlflow/auth.ini", "mlflow/.env.example"]


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def locked(package: str) -> str:
    found = re.search(rf"(?m)^{package}==(\S+)$", (ROOT / "requirements.lock").read_text())
    assert found, package
    return found[1]


TAG = f":{__version__}-ray{locked('ray')}"


@pytest.fixture(params=CLUSTERS)
def cluster(request: pytest.FixtureRequest) -> dict[str, Any]:
    return read(request.param)


def test_ray_accepts_the_cluster_files(cluster: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(cluster))
    broken = {**cluster, "max_wokers": 3}
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config(broken))


def test_the_bill_is_bounded_and_the_head_trains_nothing(cluster: dict[str, Any]) -> None:
    kinds = cluster["available_node_types"]
    assert sum(kind["max_workers"] for kind in kinds.values()) <= cluster["max_workers"]
    assert all(0 == kind["min_workers"] <= kind["max_workers"] for kind in kinds.values())
    head = kinds.pop(cluster["head_node_type"])
    assert head["resources"] == {"CPU": 0, "GPU": 0} and head["max_workers"] == 0
    assert {kind["resources"].get("GPU", 0) for kind in kinds.values()} == {0, 1}
    for kind in kinds.values():
        node = kind["node_config"]
        assert (
            node.get("InstanceMarketOptions") == {"MarketType": "spot"}
            or node["scheduling"]["provisioningModel"] == "SPOT"
        )
    assert 0 < cluster["idle_timeout_minutes"] <= 15
    assert cluster["provider"]["cache_stopped_nodes"] is False


def test_no_public_door(cluster: dict[str, Any]) -> None:
    assert cluster["provider"]["use_internal_ips"] is True and "ssh_proxy_command" in cluster["auth"]
    for kind in cluster["available_node_types"].values():
        node = kind["node_config"]
        assert node.get("SecurityGroupIds") or not any(
            "accessConfigs" in interface for interface in node["networkInterfaces"]
        )
        for disk in node.get("BlockDeviceMappings", []):
            assert disk["Ebs"]["Encrypted"] is True and disk["Ebs"]["DeleteOnTermination"] is True
        assert node.get("MetadataOptions", {"HttpTokens": "required"})["HttpTokens"] == "required"
    (start,) = [command for command in cluster["head_start_ray_commands"] if "ray start" in command]
    assert "--dashboard-host=127.0.0.1" in start and "--autoscaling-config=" in start
    options = cluster["docker"]["run_options"]
    (place,) = [option.partition("=")[2] for option in options if "RAY_AUTH_TOKEN_PATH=" in option]
    assert "-e RAY_AUTH_MODE=token" in options and not any("RAY_AUTH_TOKEN=" in option for option in options)
    assert (
        place == "/home/ray" + "/.distmer/secret/auth_token" and "~/.distmer/secret" in cluster["file_mounts"]
    )
    assert cluster["setup_commands"][0] == "test -r ~/.distmer/secret/auth_token"


def test_a_container_is_given_the_gpu_of_its_node_and_the_image_asks_for_none(
    cluster: dict[str, Any],
) -> None:
    """NVIDIA's runtime gives a container nothing that does not ask; on a node without a GPU, asking may keep
    it from starting."""
    asked = {"-e NVIDIA_VISIBLE_DEVICES=all", "-e NVIDIA_DRIVER_CAPABILITIES=compute,utility"}
    for kind in cluster["available_node_types"].values():
        assert set(kind.get("docker", {}).get("worker_run_options", [])) == (
            asked if kind["resources"].get("GPU") else set()
        )
    assert "NVIDIA" not in f"{cluster['docker']}{(ROOT / 'Dockerfile').read_text()}"


def test_one_version_everywhere(cluster: dict[str, Any]) -> None:
    ray, mlflow = locked("ray"), locked("mlflow")
    assert cluster["docker"]["image"].endswith(TAG)
    assert f"ray --version | grep -qx 'ray, version {ray}'" in cluster["setup_commands"]
    for spec in (
        read("deploy/kuberay/raycluster.yaml")["spec"],
        read("deploy/kuberay/rayjob.yaml")["spec"]["rayClusterSpec"],
    ):
        assert str(spec["rayVersion"]) == ray
    for _, pod in pods():
        assert all(container["image"].endswith(TAG) for container in pod["spec"]["containers"])
    assert (
        locked("torch") in (ROOT / "Dockerfile").read_text()
        and f"boto3=={locked('boto3')}" in (ROOT / "Dockerfile").read_text()
    )
    services = read("mlflow/compose.yaml")["services"]
    assert {services[name]["image"] for name in ("server", "prepare")} == {f"distmer-mlflow:{mlflow}"}
    bases = {
        re.findall(r"(?m)^FROM (\S+)$", (ROOT / name).read_text())[-1]
        for name in ("Dockerfile", "mlflow/Dockerfile")
    }
    assert bases == {"python:3.11.13-slim-bookworm"}


@pytest.mark.parametrize("name", [*DEPLOYED, *(str(path.relative_to(ROOT)) for path in POLICIES)])
def test_no_secret_is_written_down(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"(?:AKIA|ASIA)[A-Z0-9]{16}|-----BEGIN|[0-9a-f]{40,}", text)
    given = re.findall(
        r"(?im)^[^#;\n]*(?:password|secret_key|access_key|auth_token)[\"']?[ \t]*[=:]["
        r" \t]*([^\s?].*)$",
        text,
    )
    assert all(re.match(r"\$\{\w+:\?", value) for value in given), given


def test_images_are_pinned_and_the_image_runs_as_nobody_special() -> None:
    images = [service["image"] for service in read("mlflow/compose.yaml")["services"].values()]
    images += [
        line.split()[1] for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("FROM")
    ]
    assert all(re.search(r":[^:]*\d+\.\d+[^:]*$", image) for image in images), images
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied: set[str] = set()
    for name in ("Dockerfile", "mlflow/Dockerfile"):
        text = (ROOT / name).read_text()
        users = re.findall(r"(?m)^USER (\S+)$", text)
        assert users and users[-1] not in {"root", "0"}
        copied |= {path for line in re.findall(r"(?m)^COPY (.+) \S+$", text) for path in line.split()}
    assert copied == let_in and all((ROOT / path).exists() for path in copied)


# Ray's AWS provider, with the files as they are, against an AWS API that keeps instances and checks policies


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


def test_ray_starts_every_node_type_with_the_minimal_policies(
    aws: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ray up`'s own path: bootstrap and the head with the operator's policy, workers with the head's. The
    stand-in for AWS checks parameters and actions; it knows neither the policies' resources nor their
    conditions, so these are laid aside."""
    import boto3
    import urllib3
    from botocore.exceptions import ClientError
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler._private.util import prepare_config

    monkeypatch.setenv("AWS_ENDPOINT_URL", aws)
    config = prepare_config(read("cluster.yaml"))
    region = config["provider"]["region"]
    root = boto3.Session("root", "root", region_name=region)
    ec2, iam = root.client("ec2"), root.client("iam")
    subnet = ec2.describe_subnets()["Subnets"][0]
    group = ec2.create_security_group(GroupName="distmer", Description="distmer", VpcId=subnet["VpcId"])[
        "GroupId"
    ]
    for kind in config["available_node_types"].values():
        kind["node_config"] |= {"SubnetIds": [subnet["SubnetId"]], "SecurityGroupIds": [group]}
    for name in ("distmer-head", "distmer-worker"):
        iam.create_instance_profile(InstanceProfileName=name)
    keys = {who: user_with(iam, who) for who in ("operator", "head", "node")}
    http = urllib3.PoolManager()
    http.request("POST", f"{aws}/moto-api/reset-auth", body=b"0")  # from here on policies count
    try:
        config["provider"]["aws_credentials"] = keys["operator"]
        config = bootstrap_aws(config)
        for kind, node in config["available_node_types"].items():
            who = "operator" if kind == config["head_node_type"] else "head"
            provider = AWSNodeProvider(
                {**config["provider"], "aws_credentials": keys[who]}, config["cluster_name"]
            )
            (made,) = provider.create_node(
                copy.deepcopy(node["node_config"]), {"ray-user-node-type": kind}, 1
            ).values()
            assert made.instance_type == node["node_config"]["InstanceType"]
            assert provider.non_terminated_nodes({"ray-user-node-type": kind}) == [made.id]
            assert (made.instance_lifecycle == "spot") == (kind != config["head_node_type"])
            provider.terminate_node(made.id)
        with pytest.raises(ClientError, match="not authorized"):  # a worker does not even see nodes
            boto3.client("ec2", region_name=region, **keys["node"]).describe_instances()
    finally:
        http.request("POST", f"{aws}/moto-api/reset-auth", body=b"inf")


def user_with(iam: Any, who: str) -> dict[str, str]:
    policy = json.loads((ROOT / "deploy" / "aws" / f"iam-policy-{who}.json").read_text())
    actions = [{"Effect": "Allow", "Action": part["Action"], "Resource": "*"} for part in policy["Statement"]]
    iam.create_user(UserName=who)
    iam.put_user_policy(
        UserName=who,
        PolicyName=who,
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": actions}),
    )
    key = iam.create_access_key(UserName=who)["AccessKey"]
    return {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_policies_are_no_wider_than_they_must_be(path: Path) -> None:
    for part in json.loads(path.read_text())["Statement"]:
        actions = [part["Action"]] if isinstance(part["Action"], str) else part["Action"]
        places = [part["Resource"]] if isinstance(part["Resource"], str) else part["Resource"]
        assert part["Effect"] == "Allow" and not any("*" in action for action in actions)
        if "*" in places:  # what cannot be narrowed to a resource
            assert all(
                action.startswith("ec2:Describe") or action == "ecr:GetAuthorizationToken"
                for action in actions
            )
        if any(re.search(r":instance/\*$", place) for place in places):
            assert "ray-cluster-name" in json.dumps(part["Condition"])
        if "s3:PutObject" in actions and "node" in path.stem:
            assert places == ["arn:aws:s3:::example-distmer/workspace/*"]
        assert not any(action.startswith("s3:") for action in actions) or "head" not in path.stem


def test_policies_name_the_instance_types_of_the_cluster_and_fit_into_what_aws_takes() -> None:
    """A token is the right to run code with the head's role, and so to start whatever its policy lets it
    start."""
    cluster = read("cluster.yaml")
    kinds = {
        name: kind["node_config"]["InstanceType"] for name, kind in cluster["available_node_types"].items()
    }
    head = kinds.pop(cluster["head_node_type"])
    for who, wanted in {"operator": {head}, "head": set(kinds.values())}.items():
        parts = json.loads((ROOT / "deploy" / "aws" / f"iam-policy-{who}.json").read_text())["Statement"]
        (start,) = [
            part
            for part in parts
            if part["Action"] == "ec2:RunInstances" and ":instance/*" in part["Resource"]
        ]
        named = start["Condition"]["StringEquals"]["ec2:InstanceType"]
        assert ({named} if isinstance(named, str) else set(named)) == wanted
    # as AWS counts: without blanks
    size = {path.stem: len("".join(path.read_text().split())) for path in POLICIES}
    assert size["iam-policy-operator"] < 6144  # a managed policy
    assert size["iam-policy-head"] + size["iam-policy-node"] < 10240  # all inline policies of a role


# KubeRay: Kubernetes' own schema on the pods, KubeRay's documented fields (1.6.2) on what is around them


def pods() -> list[tuple[str, dict[str, Any]]]:
    job = read("deploy/kuberay/rayjob.yaml")["spec"]
    spec = job["rayClusterSpec"]
    found = [("head", spec["headGroupSpec"]["template"]), ("submitter", job["submitterPodTemplate"])]
    return found + [(group["groupName"], group["template"]) for group in spec["workerGroupSpecs"]]


def test_the_job_runs_on_the_cluster_of_the_other_file() -> None:
    assert (
        read("deploy/kuberay/rayjob.yaml")["spec"]["rayClusterSpec"]
        == read("deploy/kuberay/raycluster.yaml")["spec"]
    )


@pytest.mark.parametrize(("name", "pod"), pods(), ids=lambda value: value if isinstance(value, str) else "")
def test_kubernetes_accepts_the_pods_and_they_are_locked_down(name: str, pod: dict[str, Any]) -> None:
    template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}, "template": pod}
    kubernetes_validate.validate(template, "1.37", strict=True)
    wrong = copy.deepcopy(template)
    wrong["template"]["spec"]["containers"][0]["securityContexts"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.37", strict=True)
    spec = pod["spec"]
    assert spec["imagePullSecrets"] == [{"name": "distmer-registry"}]
    if name != "submitter":
        claims = [volume["persistentVolumeClaim"]["claimName"] for volume in spec["volumes"]]
        assert claims == [claim["metadata"]["name"] for claim in read("deploy/kuberay/claims.yaml")["items"]]
    assert spec["automountServiceAccountToken"] is (name == "head")
    assert (
        spec["securityContext"]["runAsNonRoot"] is True
        and spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    )
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys()


@pytest.mark.parametrize(
    "claim", read("deploy/kuberay/claims.yaml")["items"], ids=lambda claim: claim["metadata"]["name"]
)
def test_kubernetes_accepts_the_claims_and_many_pods_may_mount_them(claim: dict[str, Any]) -> None:
    kubernetes_validate.validate(claim, "1.37", strict=True)
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def fields(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": properties,
    }


TEXT, COUNT, YES, ANY = (
    {"type": "string"},
    {"type": "integer", "minimum": 0},
    {"type": "boolean"},
    {"type": "object"},
)
TEXTS = {"type": "object", "additionalProperties": TEXT}
# By hand, after KubeRay's API reference: its own schema is in no package of a registry that the tests could
# install.
AUTOSCALER = fields(
    idleTimeoutSeconds=COUNT,
    version={"enum": ["v1", "v2"]},
    upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
    resources=ANY,
    securityContext=ANY,
)
WORKERS = fields(
    ("groupName", "template", "maxReplicas"),
    groupName=TEXT,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    idleTimeoutSeconds=COUNT,
    rayStartParams=TEXTS,
    template=ANY,
)
RAY_CLUSTER = fields(
    ("headGroupSpec", "rayVersion"),
    rayVersion=TEXT,
    authOptions=fields(mode={"enum": ["token", "disabled"]}, secretName=TEXT, enableK8sTokenAuth=YES),
    enableInTreeAutoscaling=YES,
    autoscalerOptions=AUTOSCALER,
    headGroupSpec=fields(
        ("template",), serviceType={"enum": ["ClusterIP"]}, rayStartParams=TEXTS, template=ANY
    ),
    workerGroupSpecs={"type": "array", "items": WORKERS},
)
RAY_JOB = fields(
    ("entrypoint", "rayClusterSpec"),
    entrypoint=TEXT,
    runtimeEnvYAML=TEXT,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    backoffLimit=COUNT,
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
    shutdownAfterJobFinishes=YES,
    ttlSecondsAfterFinished=COUNT,
    submitterPodTemplate=ANY,
    rayClusterSpec=RAY_CLUSTER,
)


@pytest.mark.parametrize(
    ("name", "kind", "schema"), [("raycluster", "RayCluster", RAY_CLUSTER), ("rayjob", "RayJob", RAY_JOB)]
)
def test_kuberay_knows_every_field(name: str, kind: str, schema: dict[str, Any]) -> None:
    manifest = read(f"deploy/kuberay/{name}.yaml")
    whole = fields(
        ("metadata",), apiVersion={"const": "ray.io/v1"}, kind={"const": kind}, metadata=ANY, spec=schema
    )
    jsonschema.Draft202012Validator(whole).validate(manifest)
    spec = manifest["spec"].get("rayClusterSpec", manifest["spec"])
    assert spec["authOptions"] == {"mode": "token", "secretName": "distmer-ray-token"}
    assert (
        spec["headGroupSpec"]["rayStartParams"]["num-cpus"]
        == spec["headGroupSpec"]["rayStartParams"]["num-gpus"]
        == "0"
    )
    for group in spec["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert group["rayStartParams"]["num-cpus"] == container["resources"]["limits"]["cpu"]
        assert int(group["rayStartParams"].get("num-gpus", 0)) == container["resources"]["limits"].get(
            "nvidia.com/gpu", 0
        )


def test_the_tracking_server_listens_on_loopback_and_waits_for_its_stores() -> None:
    compose = read("mlflow/compose.yaml")
    services = compose["services"]
    assert {name for name, service in services.items() if service.get("ports")} == {"server"}
    assert services["server"]["ports"] == ["127.0.0.1:5000:5000"]
    assert "--app-name=basic-auth" in services["server"]["command"]
    assert all(service.get("healthcheck") for name, service in services.items() if name != "prepare")
    assert services["server"]["depends_on"]["prepare"] == {"condition": "service_completed_successfully"}
    asked = set(re.findall(r"\$\{(\w+):\?", (ROOT / "mlflow/compose.yaml").read_text()))
    offered = set(re.findall(r"(?m)^(\w+)=$", (ROOT / "mlflow/.env.example").read_text()))
    assert asked == offered
    assert not list((ROOT / "mlflow").glob("**/*.py"))
    assert os.system(f"cd {ROOT} && git check-ignore --quiet mlflow/.env") == 0
