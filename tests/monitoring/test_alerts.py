"""Every alert fires on what it is for and stays silent on a healthy pair, as promtool sees it; each has a runbook."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = ROOT / "monitoring" / "alerts.yml"
ALERTS = re.findall(r"^ +- alert: (\w+)$", RULES.read_text(encoding="utf-8"), re.MULTILINE)
NODE = 'instance="a:1",job="kine-failover"'
OTHER = 'instance="b:1",job="kine-failover"'
DAY_S = 86400


def family(name: str, label: str, values: dict[str, str], node: str = NODE) -> dict[str, str]:
    return {f'kine_failover_{name}{{{node},{label}="{key}"}}': value for key, value in values.items()}


def plain(name: str, value: str, node: str = NODE) -> dict[str, str]:
    return {f"kine_failover_{name}{{{node}}}": value}


INFO = {
    f'kine_failover_node_info{{{NODE},cluster="shop",node="0"}}': "1x200",
    f'kine_failover_node_info{{{OTHER},cluster="shop",node="1"}}': "1x200",
}
HEALTHY = {
    **INFO,
    f"up{{{NODE}}}": "1x200",
    f"up{{{OTHER}}}": "1x200",
    **family("role", "role", {"leader": "1x200", "follower": "0x200", "halted": "0x200"}),
    **family("role", "role", {"leader": "0x200", "follower": "1x200", "halted": "0x200"}, OTHER),
    **family("peer", "evidence", {"follows": "1x200", "silent": "0x200", "refused": "0x200", "half": "0x200"}),
    **family("path_connected", "path", {"10.0.0.2:7480": "1x200"}),
    **family("kine_target", "target", {"own": "1x200", "peer": "0x200"}),
    **family("disk_free_bytes", "folder", {"/var": "90x200"}),
    **family("disk_size_bytes", "folder", {"/var": "100x200"}),
    **family("certificate_expiry_timestamp_seconds", "certificate", {"certificate": f"{400 * DAY_S}x200"}),
    **family("plan_failures_total", "plan", {"promote": "0x200"}),
    **family("split_brains_total", "winner", {"0": "0x200", "1": "1x200"}),
    **plain("in_sync", "1x200"), **plain("writes_at_risk", "0x200"), **plain("postgres_up", "1x200"),
    **plain("kine_restarts_total", "2x200"), **plain("kine_watch_age_seconds", "3x200"),
    **plain("disk_nearly_full", "0x200"), **plain("slot_retained_bytes", "10x200"),
    **plain("slot_limit_bytes", "100x200"), **plain("replication_lag_bytes", "1000x200"),
    **plain("clock_offset_seconds", "-0.2x200"), **plain("clock_uncertainty_seconds", "0.001x200"),
    **plain("paused", "0x200"), **plain("leaderships_total", "2x200"),
    **plain("last_scrub_differing_rows", "0x200"),
    **plain("last_drill_timestamp_seconds", "0x200"), **plain("last_drill_success", "1x200"),
}  # fmt: skip
# Alert -> what differs from a healthy pair, and how often it fires.
FAULTS: dict[str, tuple[dict[str, str], int]] = {
    "KineFailoverDown": ({f"up{{{OTHER}}}": "0x200"}, 1),
    "KineFailoverNoLeader": (family("role", "role", {"leader": "0x200"}), 1),
    "KineFailoverTwoLeaders": (family("role", "role", {"leader": "1x200"}, OTHER), 1),
    "KineFailoverNotInSync": (plain("in_sync", "0x200"), 1),
    "KineFailoverWritesAtRisk": (plain("writes_at_risk", "7x200"), 1),
    "KineFailoverHalted": (family("role", "role", {"halted": "1x200"}, OTHER), 1),
    "KineFailoverPeerLost": (family("peer", "evidence", {"silent": "1x200"}), 1),
    "KineFailoverPathDown": (family("path_connected", "path", {"10.0.0.2:7480": "0x200"}), 1),
    "KineFailoverPostgresDown": (plain("postgres_up", "0x200"), 1),
    "KineFailoverKineDown": (family("kine_target", "target", {"own": "0x200"}), 1),
    "KineFailoverKineRestarts": (plain("kine_restarts_total", "0+1x200"), 1),
    "KineFailoverWatchStalled": (plain("kine_watch_age_seconds", "0+60x200"), 1),
    "KineFailoverDiskNearlyFull": (family("disk_free_bytes", "folder", {"/var": "5x200"}), 1),
    "KineFailoverSlotRetained": (plain("slot_retained_bytes", "85x200"), 1),
    "KineFailoverReplicationLag": (plain("replication_lag_bytes", "100000000x200"), 1),
    "KineFailoverClockOffset": (plain("clock_offset_seconds", "-2x200"), 1),
    "KineFailoverCertificateExpires": (
        family("certificate_expiry_timestamp_seconds", "certificate", {"certificate": f"{10 * DAY_S}x200"}), 1,
    ),
    "KineFailoverPausedLong": (plain("paused", "1x200"), 1),
    "KineFailoverSplitBrainResolved": (family("split_brains_total", "winner", {"0": "0x150 1x50"}), 1),
    "KineFailoverFlapping": (plain("leaderships_total", "0+0.1x200"), 1),
    "KineFailoverPlanFails": (family("plan_failures_total", "plan", {"promote": "0+1x200"}), 1),
    "KineFailoverDataDiffers": (plain("last_scrub_differing_rows", "2x200"), 1),
    "KineFailoverDrillOld": (plain("last_drill_timestamp_seconds", f"-{40 * DAY_S}x200"), 1),
}  # fmt: skip
AT = "170m"  # longer than every `for`


@pytest.fixture(scope="session")
def promtool() -> str:
    """Where promtool is; installed where that can be done."""
    found = shutil.which("promtool")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(
            ["flock", "/tmp/apt.lock", "apt-get", "install", "-y", "--no-install-recommends", "prometheus"],  # noqa: S108
            check=False, capture_output=True, timeout=200,
        )  # fmt: skip
        found = shutil.which("promtool")
    if found is None:
        if os.environ.get("CI") == "true" and os.geteuid() == 0:
            pytest.fail("promtool cannot be installed")
        pytest.skip("promtool is not there (Debian package prometheus)")
    return found


def run(promtool: str, folder: Path, cases: list[tuple[dict[str, str], str, int]]) -> subprocess.CompletedProcess[str]:
    """Have promtool play each case: its series, and how often the alert is firing at AT."""
    tests = [
        {
            "name": f"{alert} {count}",
            "interval": "1m",
            "input_series": [{"series": series, "values": values} for series, values in told.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)',
                    "eval_time": AT,
                    "exp_samples": [{"labels": "{}", "value": count}],
                }
            ],
        }
        for told, alert, count in cases
    ]
    file = folder / "alerts_test.yml"  # JSON is YAML
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    return subprocess.run(
        [promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False, timeout=200
    )


def test_rules_are_well_formed(promtool: str) -> None:
    done = subprocess.run([promtool, "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried() -> None:
    assert set(ALERTS) == set(FAULTS)


def test_nothing_fires_on_a_healthy_pair(promtool: str, tmp_path: Path) -> None:
    done = run(promtool, tmp_path, [(HEALTHY, alert, 0) for alert in ALERTS])
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_fires_on_what_it_is_for(promtool: str, tmp_path: Path) -> None:
    done = run(promtool, tmp_path, [({**HEALTHY, **told}, alert, count) for alert, (told, count) in FAULTS.items()])
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_expectation_is_noticed(promtool: str, tmp_path: Path) -> None:
    assert run(promtool, tmp_path, [(HEALTHY, "KineFailoverDown", 1)]).returncode != 0


@pytest.mark.parametrize("alert", ALERTS)
def test_each_has_a_runbook(alert: str) -> None:
    text = (ROOT / "docs" / "runbooks" / f"{alert}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {alert}\n")
    for heading in ("## What it means", "## What is at risk", "## Look at", "## Do"):
        assert heading in text
    assert f"runbook_url: docs/runbooks/{alert}.md#{alert.lower()}\n" in RULES.read_text(encoding="utf-8")
    for linked in re.findall(r"\]\((\w+\.md)\)", text):
        assert (ROOT / "docs" / "runbooks" / linked).exists()


def test_no_runbook_is_left_over() -> None:
    assert {path.stem for path in (ROOT / "docs" / "runbooks").glob("KineFailover*.md")} == set(ALERTS)
