"""Jobs over HTTP: begin in the background, list, follow from another connection, end, resume."""

from __future__ import annotations

from typing import Any

import pytest

from tests.registry.fake_hub import FakeHub
from tests.served import Daemon, until

NAME = "hf.co/user/m"


def status(daemon: Daemon, id: str) -> Any:
    return daemon.ask("GET", f"/api/jobs/{id}").json()["status"]


def test_a_pull_in_the_background_goes_on_and_can_be_followed(
    own: Daemon, hub: FakeHub, gguf: bytes
) -> None:
    hub.add_repo("user/m", {"m.gguf": gguf})
    slow = hub.fault("cdn", slow=400_000)
    begun = own.ask("POST", "/api/pull", {"model": NAME, "background": True})
    assert begun.status == 202
    job = begun.json()
    assert (job["kind"], job["model"], job["status"]) == ("pull", NAME, "running")
    assert job["background"] is True and job["error"] is None

    again = own.ask("POST", "/api/pull", {"model": NAME, "background": True}).json()
    assert again["id"] == job["id"]
    first, second = (own.open("GET", f"/api/jobs/{job['id']}/steps") for _ in range(2))
    assert first.line() == {"status": "pulling manifest"}
    first.leave()
    steps = second.lines()
    assert steps[0] == {"status": "pulling manifest"} and steps[-1]["status"] == "success"

    [ended] = own.ask("GET", "/api/jobs").json()["jobs"]
    assert ended["status"] == "done" and ended["progress"]["status"] == "success"
    assert ended["completed"] == ended["total"] >= len(gguf)
    names = [model["name"] for model in own.ask("GET", "/api/tags").json()["models"]]
    assert f"{NAME}:latest" in names and slow.server == "cdn"
    assert own.ask("DELETE", f"/api/jobs/{job['id']}").status == 204
    assert own.ask("GET", "/api/jobs").json() == {"jobs": []}


def test_a_cancelled_pull_is_taken_up_where_it_ended(
    own: Daemon, hub: FakeHub, gguf: bytes
) -> None:
    hub.add_repo("user/m", {"m.gguf": gguf})
    slow = hub.fault("cdn", slow=100_000, times=99)
    job = own.ask("POST", "/api/pull", {"model": NAME, "background": True}).json()
    path = f"/api/jobs/{job['id']}"
    until(lambda: own.ask("GET", path).json()["completed"] > 200_000, "some bytes")
    following = own.open("GET", f"{path}/steps")
    following.line()
    assert own.ask("DELETE", path).status == 204
    assert "cancel" in following.lines()[-1]["error"]
    until(lambda: status(own, job["id"]) == "cancelled", "the job has ended")

    hub.faults.remove(slow)
    before = hub.sent("cdn")
    resumed = own.ask("POST", "/api/pull", {"model": NAME, "background": True}).json()
    assert resumed["id"] != job["id"]
    until(lambda: status(own, resumed["id"]) == "done", "the pull is done")
    assert hub.sent("cdn") - before < len(gguf) - 100_000


@pytest.mark.long
def test_how_a_job_failed_can_be_read_later(own: Daemon) -> None:
    job = own.ask("POST", "/api/pull", {"model": NAME, "background": True}).json()
    until(lambda: status(own, job["id"]) == "failed", "the job has ended")
    failed = own.ask("GET", f"/api/jobs/{job['id']}").json()
    assert "user/m does not exist" in failed["error"]["message"]
    assert (
        failed["error"]["message"] in own.ask("GET", f"/api/jobs/{job['id']}/steps").body.decode()
    )


def test_what_is_refused(own: Daemon) -> None:
    for method, path in (
        ("GET", "/api/jobs/job_x"),
        ("GET", "/api/jobs/job_x/steps"),
        ("DELETE", "/api/jobs/job_x"),
    ):
        answer = own.ask(method, path)
        assert answer.status == 404 and "there is no job" in answer.json()["error"]
    assert own.ask("POST", "/api/pull", {"model": "a:b:c", "background": True}).status == 400
