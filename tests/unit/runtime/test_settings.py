"""Settings: where they come from, which wins, and what is said where one is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

import pytest
from pydantic import Field, SecretStr

from referral_bus.runtime.settings import Settings, SettingsError

SECRET = "hunter2-hunter2"


class DoorSettings(Settings):
    service: ClassVar[str] = "door"

    master_key: Annotated[SecretStr, Field(min_length=4)]
    width: Annotated[int, Field(ge=1)] = 3
    hinges: tuple[str, ...] = ()


@pytest.fixture(autouse=True)
def environment(environment: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    environment.setenv("REFBUS_MASTER_KEY", SECRET)
    return environment


def config(environment: pytest.MonkeyPatch, folder: Path, text: str) -> Path:
    path = folder / "refbus.toml"
    path.write_text(text, encoding="utf-8")
    environment.setenv("REFBUS_CONFIG", str(path))
    return path


def refusal(**given: object) -> str:
    with pytest.raises(SettingsError) as refused:
        DoorSettings.load(**given)
    return str(refused.value)


def test_without_any_said_the_defaults_count() -> None:
    settings = DoorSettings.load()
    assert (settings.bus, settings.port, settings.width) == ("main", 8080, 3)


def test_given_wins_over_the_environment_over_the_services_table_over_the_top_of_the_file(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config(
        environment,
        tmp_path,
        'port = 1\nhost = "top"\nbus = "top"\n[door]\nport = 2\nhost = "table"\nwidth = 2\n',
    )
    environment.setenv("REFBUS_PORT", "3")
    settings = DoorSettings.load(width=9)
    assert (settings.bus, settings.host, settings.port, settings.width) == ("top", "table", 3, 9)


def test_a_secret_may_be_in_a_file_and_loses_the_newline_at_its_end(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.delenv("REFBUS_MASTER_KEY")
    (tmp_path / "key").write_text(f"{SECRET}\n", encoding="utf-8")
    environment.setenv("REFBUS_MASTER_KEY_FILE", str(tmp_path / "key"))
    assert DoorSettings.load().master_key.get_secret_value() == SECRET


def test_a_setting_in_the_environment_and_in_a_named_file_is_refused(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("other-secret", encoding="utf-8")
    environment.setenv("REFBUS_MASTER_KEY_FILE", str(tmp_path / "key"))
    said = refusal()
    assert "REFBUS_MASTER_KEY and REFBUS_MASTER_KEY_FILE are both set" in said
    assert SECRET not in said


@pytest.mark.parametrize(
    "content", [None, b"\xff\xfe", b"x" * 70_000], ids=["missing", "not text", "too large"]
)
def test_a_named_file_that_can_not_be_used_is_named_with_the_reason(
    environment: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    environment.delenv("REFBUS_MASTER_KEY")
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    environment.setenv("REFBUS_MASTER_KEY_FILE", str(path))
    said = refusal()
    assert said.startswith(f"REFBUS_MASTER_KEY_FILE names {path}, which ")


def test_what_is_missing_is_named_with_both_ways_to_set_it(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("REFBUS_MASTER_KEY")
    assert (
        refusal()
        == "REFBUS_MASTER_KEY is missing: set it, or 'master_key' in the file named by REFBUS_CONFIG"
    )


def test_every_wrong_setting_is_named_at_once(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("REFBUS_PORT", "99999")
    environment.setenv("REFBUS_BUS", "Main Street")
    environment.setenv("REFBUS_KAFKA", "broker")
    lines = refusal().splitlines()
    assert [line.split(" is ")[0] for line in sorted(lines)] == ["REFBUS_BUS", "REFBUS_KAFKA", "REFBUS_PORT"]
    assert "'99999'" in next(line for line in lines if "PORT" in line)


def test_a_list_that_is_no_json_is_named(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("REFBUS_HINGES", "left, right")
    assert refusal() == "REFBUS_HINGES can't be read: give lists and tables as JSON"


def test_a_wrong_secret_is_named_and_not_shown(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("REFBUS_MASTER_KEY", "abc")
    said = refusal()
    assert said.startswith("REFBUS_MASTER_KEY is not valid: ")
    assert "abc" not in said


def test_secrets_do_not_show_in_the_settings(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("REFBUS_DATABASE_URL", f"postgresql+psycopg://me:{SECRET}@host/refbus")
    settings = DoorSettings.load()
    assert SECRET not in repr(settings) + str(settings) + settings.model_dump_json()


def test_a_misspelt_name_in_the_file_is_an_error_and_not_a_loss(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = config(environment, tmp_path, "[door]\nwidht = 2\n")
    said = refusal()
    assert said.startswith(f"{path}: there is no setting 'widht' in [door]; it takes: ")
    assert "width" in said


def test_what_belongs_to_one_service_is_not_taken_at_the_top_of_the_file(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config(environment, tmp_path, "width = 2\n")
    assert "there is no setting 'width' at the top level" in refusal()


def test_another_services_table_is_passed_over(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config(environment, tmp_path, "port = 5\n[window]\npanes = 4\n")
    assert DoorSettings.load().port == 5


@pytest.mark.parametrize("text", ["port = ", "door = 5\n"])
def test_a_file_that_is_no_toml_or_has_a_value_for_a_table_is_named(
    environment: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    path = config(environment, tmp_path, text)
    assert str(path) in refusal()


def test_a_program_says_what_is_wrong_on_standard_error_and_exits_with_2(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("REFBUS_WIDTH", "0")
    with pytest.raises(SystemExit) as exit:
        DoorSettings.load_or_exit()
    said = capsys.readouterr()
    assert (exit.value.code, said.out) == (2, "")
    assert said.err.startswith("REFBUS_WIDTH is '0'")


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        DoorSettings.load().port = 1  # type: ignore[misc]
