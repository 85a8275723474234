"""Jobs, DaemonSets, StatefulSets and budgets over a real apiserver, with pretended nodes."""

from __future__ import annotations

from typing import Any

from tillerman.api.pods import is_ready
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import batch_v1_pb2 as batch
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import policy_v1_pb2 as policy


def fill(template: core.PodTemplateSpec, name: str, image: str = "work:1") -> None:
    template.metadata.labels["app"] = name
    template.spec.containers.add(name="c", image=image)


async def end(cluster: Any, pod: core.Pod, phase: str = "Succeeded") -> None:
    changed = core.Pod()
    changed.CopyFrom(pod)
    changed.status.phase = phase
    for condition in changed.status.conditions:
        condition.status = "False"
    await cluster.client.resource(core.Pod).update_status(changed)


async def test_a_job_counts_every_pod_once(cluster) -> None:
    job = batch.Job()
    job.metadata.name, job.metadata.namespace = "work", cluster.namespace
    job.spec.parallelism, job.spec.completions, job.spec.backoffLimit = 2, 3, 6
    fill(job.spec.template, "work")
    job.spec.template.spec.restartPolicy = "Never"
    jobs = cluster.client.resource(batch.Job)
    await jobs.create(job)
    ended: set[str] = set()

    async def complete() -> bool:
        for pod in await cluster.pods(app="work"):
            if pod.status.phase == "Running" and pod.metadata.uid not in ended:
                await end(cluster, pod)
                ended.add(pod.metadata.uid)
        status = (await jobs.get("work", cluster.namespace)).status
        return any(c.type == "Complete" and c.status == "True" for c in status.conditions)

    await cluster.until(complete)
    done = (await jobs.get("work", cluster.namespace)).status
    assert (done.succeeded, done.failed, done.active, len(ended)) == (3, 0, 0, 3)
    assert not any(pod.metadata.finalizers for pod in await cluster.pods(app="work"))


async def test_an_indexed_job_gives_each_index_its_own_tries(cluster) -> None:
    job = batch.Job()
    job.metadata.name, job.metadata.namespace = "each", cluster.namespace
    job.spec.parallelism = job.spec.completions = 2
    job.spec.completionMode, job.spec.backoffLimitPerIndex = "Indexed", 0
    fill(job.spec.template, "each")
    job.spec.template.spec.restartPolicy = "Never"
    jobs = cluster.client.resource(batch.Job)
    await jobs.create(job)
    ended: set[str] = set()

    async def over() -> batch.JobStatus | None:
        for pod in await cluster.pods(app="each"):
            if pod.status.phase == "Running" and pod.metadata.uid not in ended:
                index = pod.metadata.annotations["batch.kubernetes.io/job-completion-index"]
                await end(cluster, pod, "Failed" if index == "1" else "Succeeded")
                ended.add(pod.metadata.uid)
        status = (await jobs.get("each", cluster.namespace)).status
        return status if any(c.type == "Failed" and c.status == "True" for c in status.conditions) else None

    status = await cluster.until(over)
    assert (status.completedIndexes, status.failedIndexes, status.succeeded, status.failed) == ("0", "1", 1, 1)
    assert {c.reason for c in status.conditions} == {"FailedIndexes"}
    assert not any(pod.metadata.finalizers for pod in await cluster.pods(app="each"))


async def test_a_daemon_runs_on_every_node_and_is_rolled_over(cluster) -> None:
    daemon = apps.DaemonSet()
    daemon.metadata.name, daemon.metadata.namespace = "agent", cluster.namespace
    daemon.spec.selector.matchLabels["app"] = "agent"
    fill(daemon.spec.template, "agent")
    daemons = cluster.client.resource(apps.DaemonSet)
    await daemons.create(daemon)

    async def rolled(image: str) -> bool:
        status = (await daemons.get("agent", cluster.namespace)).status
        pods = [pod for pod in await cluster.pods(app="agent") if is_ready(pod)]
        images = {pod.spec.containers[0].image for pod in pods}
        return status.numberAvailable == status.updatedNumberScheduled == 2 and len(pods) == 2 and images == {image}

    await cluster.until(lambda: rolled("work:1"))
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "work:2"}]}}}}
    await daemons.patch("agent", cluster.namespace, patch, type="strategic")
    await cluster.until(lambda: rolled("work:2"))
    revisions = await cluster.client.resource(apps.ControllerRevision).list(cluster.namespace)
    assert sorted(revision.revision for revision in revisions.items) == [1, 2]


async def test_a_stateful_set_keeps_names_and_order(cluster) -> None:
    stateful = apps.StatefulSet()
    stateful.metadata.name, stateful.metadata.namespace = "db", cluster.namespace
    stateful.spec.replicas = 3
    stateful.spec.serviceName = "db"
    stateful.spec.selector.matchLabels["app"] = "db"
    fill(stateful.spec.template, "db")
    sets = cluster.client.resource(apps.StatefulSet)
    order: list[str] = []
    cluster.nodes.pods.add_handler(
        on_add=lambda pod: order.append(pod.metadata.name) if pod.metadata.namespace == cluster.namespace else None
    )
    await sets.create(stateful)

    async def complete(number: int, image: str) -> bool:
        found = await sets.get("db", cluster.namespace)
        pods = [pod for pod in await cluster.pods(app="db") if is_ready(pod)]
        images = {pod.spec.containers[0].image for pod in pods}
        status = found.status
        return len(pods) == number == status.readyReplicas == status.updatedReplicas and images == {image}

    await cluster.until(lambda: complete(3, "work:1"))
    assert order == ["db-0", "db-1", "db-2"]
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "work:2"}]}}}}
    await sets.patch("db", cluster.namespace, patch, type="strategic")
    await cluster.until(lambda: complete(3, "work:2"))
    assert order[3:] == ["db-2", "db-1", "db-0"]
    await sets.patch("db", cluster.namespace, {"spec": {"replicas": 1}})
    await cluster.until(lambda: complete(1, "work:2"))
    assert [pod.metadata.name for pod in await cluster.pods(app="db")] == ["db-0"]


async def test_a_budget_tells_what_may_be_evicted(cluster) -> None:
    replica_set = apps.ReplicaSet()
    replica_set.metadata.name, replica_set.metadata.namespace = "guarded", cluster.namespace
    replica_set.spec.replicas = 4
    replica_set.spec.selector.matchLabels["app"] = "guarded"
    fill(replica_set.spec.template, "guarded")
    await cluster.client.resource(apps.ReplicaSet).create(replica_set)
    budget = policy.PodDisruptionBudget()
    budget.metadata.name, budget.metadata.namespace = "guarded", cluster.namespace
    budget.spec.selector.matchLabels["app"] = "guarded"
    budget.spec.maxUnavailable.type, budget.spec.maxUnavailable.strVal = 1, "30%"
    budgets = cluster.client.resource(policy.PodDisruptionBudget)
    await budgets.create(budget)

    async def settled() -> bool:
        status = (await budgets.get("guarded", cluster.namespace)).status
        counts = (status.expectedPods, status.currentHealthy, status.desiredHealthy, status.disruptionsAllowed)
        return counts == (4, 4, 2, 2)

    await cluster.until(settled)
