"""`/metrics` in the exposition format, and alert rules that speak of series that are there."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

import lictor.templates
from tests.support.web import Site

RULES = Path(lictor.templates.__file__).parent / "prometheus" / "lictor.rules.yml"


def series(site: Site) -> dict[str, dict[tuple[str, ...], float]]:
    answer = site.admin.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for one in family.samples:
            labels = tuple(str(value) for _, value in sorted(one.labels.items()))
            found.setdefault(one.name, {})[labels] = one.value
    return found


def test_every_service_has_every_series_all_the_time(site: Site):
    found = series(site)
    assert found["lictor_service_up"][("brain",)] == 1
    assert found["lictor_service_up"][("tts",)] == 0
    assert found["lictor_service_wanted"][("brain",)] == 1
    assert found["lictor_service_phase"][("ready", "brain")] == 1
    assert found["lictor_service_memory_bytes"][("brain",)] > 1e6
    assert found["lictor_service_cpu_seconds_total"][("brain",)] > 0
    assert found["lictor_service_start_seconds"][("brain",)] > 0
    assert found["lictor_service_restarts_total"][("tts",)] >= 0
    assert found["lictor_consul_up"][()] == 0
    assert found["lictor_consul_writes_total"][()] == 0
    assert found["lictor_reconcile_seconds_count"][()] > 0
    assert sum(found["lictor_service_phase"].values()) == len(found["lictor_service_up"])


def test_a_restart_is_counted(site: Site):
    before = series(site)["lictor_service_restarts_total"][("brain",)]
    pid = site.agent.service_pid("brain")
    site.admin.post("/supervisor/restart", json={"name": "brain"})
    site.agent.wait_ready("brain")
    assert site.agent.service_pid("brain") != pid
    assert series(site)["lictor_service_restarts_total"][("brain",)] == before + 1


def test_only_those_with_the_right_may_scrape(site: Site):
    assert site.anybody().get("/metrics").status_code == 401
    assert site.as_("olga", "user").get("/metrics").status_code == 403


def test_every_alert_asks_about_series_that_are_there(site: Site):
    known = {*series(site), "lictor_loop_lag_seconds_bucket"}
    groups = yaml.safe_load(RULES.read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) >= 5
    for rule in rules:
        asked = set(re.findall(r"lictor_\w+", rule["expr"]))
        assert asked <= known, rule["alert"]
        assert rule["annotations"]["summary"]
