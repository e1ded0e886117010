"""What the doctor says of addresses and time zones, without a database."""

from pathlib import Path
from zoneinfo import ZoneInfoNotFoundError

import pytest

from daybreak import doctor


@pytest.mark.parametrize("address", ["postgresql://a@b/c", "postgresql+psycopg://a@b/c", "postgres://a@b/c"])
def test_a_driver_that_never_launches_runs_is_found(address: str) -> None:
    for finding in (doctor.driver_finding(address, None), doctor.driver_finding(None, address)):
        assert not finding.is_ok
        assert "postgresql+psycopg2://" in finding.remedy
        assert "a@b" not in finding.found  # an address may hold a password


def test_the_right_driver_and_none_given_are_well() -> None:
    assert doctor.driver_finding(None, None).is_ok
    assert doctor.driver_finding("postgresql+psycopg2://a@b/c", "postgresql+psycopg2://a@b/c").is_ok


def test_zones_without_data_are_named() -> None:
    assert list(doctor.unknown_zones(["Europe/Madrid", "Mars/Olympus", "../etc/passwd", "Europe"])) == [
        "Mars/Olympus",
        "../etc/passwd",
        "Europe",
    ]


def test_a_machine_without_zone_data_knows_no_zone() -> None:
    def without_data(_zone: str) -> object:
        raise ZoneInfoNotFoundError

    assert list(doctor.unknown_zones(["UTC"], without_data)) == ["UTC"]


def test_without_a_home_the_doctor_still_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DAYBREAK_HOME", str(tmp_path / "file" / "home"))
    findings = {finding.check: finding for finding in doctor.examine()}
    assert not findings["home"].is_ok
    assert findings["home"].remedy
    assert "database" not in findings


@pytest.mark.parametrize(("platform", "package"), [("linux", "libgomp1"), ("darwin", "brew install libomp")])
def test_a_missing_library_of_lightgbm_is_a_warning_that_names_the_package(platform: str, package: str) -> None:
    fault = "LightGBM cannot be loaded: libgomp.so.1: cannot open shared object file."
    finding = doctor.lightgbm_finding(lambda: fault, platform)
    assert finding.is_ok, "the instance works all the same"
    assert finding.is_warning
    assert package in finding.remedy
    assert "libgomp.so.1" in finding.found
    assert "HistGradientBoosting" in finding.found


def test_lightgbm_is_well_where_it_loads() -> None:
    finding = doctor.lightgbm_finding(lambda: None)
    assert (finding.is_ok, finding.is_warning, finding.remedy) == (True, False, "")
