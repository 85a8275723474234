from dataclasses import dataclass
from pathlib import Path

import pytest

from tillerman.service.options import OptionsError, ServiceOptions, duration, option, parse


@dataclass(kw_only=True)
class Options(ServiceOptions):
    node_name: str = option("", help="A 100% unique name.")
    max_pods: int = option(110, help="Pods.")
    grace: float = option(40.0, help="Seconds.")
    leader_elect: bool = option(True, help="Elect.")
    controllers: list[str] = option(["*"], help="Which.")
    labels: dict[str, str] = option({}, help="Labels.")
    limit: int | None = option(None, help="Limit.")


def read(*argv: str, environ: dict[str, str] | None = None, **defaults: object) -> Options:
    return parse(Options, ["--insecure", *argv], prog="test", environ=environ or {}, defaults=defaults)


def test_defaults_and_flags_of_every_type() -> None:
    assert read().controllers == ["*"]
    options = read(
        "--node-name=n1", "--max-pods", "5", "--grace=1m30s", "--leader-elect=false", "--controllers=a,b",
        "--controllers=c", "--labels=zone=x,disk=ssd", "--limit=3", "--kubeconfig=/etc/k",
    )  # fmt: skip
    assert (options.node_name, options.max_pods, options.grace, options.leader_elect) == ("n1", 5, 90.0, False)
    assert options.controllers == ["a", "b", "c"]
    assert options.labels == {"zone": "x", "disk": "ssd"}
    assert options.limit == 3
    assert options.kubeconfig == Path("/etc/k")
    assert read("--leader-elect").leader_elect is True


def test_a_flag_wins_over_the_environment_that_over_the_file_that_over_the_default(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("maxPods: 1\nnode-name: file\ngrace: 5s\nlabels: {a: b}\ncontrollers: [x, y]\nleader_elect: no\n")
    options = read(
        f"--config={file}", "--max-pods=3", environ={"TILLERMAN_MAX_PODS": "2", "TILLERMAN_NODE_NAME": "env"}
    )
    assert (options.max_pods, options.node_name, options.grace) == (3, "env", 5.0)
    assert (options.labels, options.controllers, options.leader_elect) == ({"a": "b"}, ["x", "y"], False)
    assert read(port=7777).port == 7777
    assert read("--port=1", port=7777).port == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--max-pods=many"], "--max-pods: invalid literal"),
        (["--grace=soon"], '--grace: "soon" is not a duration'),
        (["--leader-elect=perhaps"], '--leader-elect: "perhaps" is neither true nor false'),
        (["--labels=zone"], '--labels: "zone" is not NAME=VALUE'),
        (["--log-level=loud"], "--log-level"),
        (["--log-format=xml"], "--log-format"),
        (["--config=/nowhere/at/all"], "--config: cannot read /nowhere/at/all"),
    ],
)
def test_what_cannot_be_used_is_named(argv: list[str], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        read(*argv)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nodeNam: x", 'unknown option "nodeNam"'),
        ("maxPods: lots", "maxPods: invalid literal"),
        ("maxPods: true", "maxPods: True is not a number"),
        ("- a", "must hold a mapping"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_bad_file_is_told_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(OptionsError, match=message):
        read(f"--config={file}")


def test_tls_is_required_unless_insecure() -> None:
    with pytest.raises(OptionsError, match="TLS needs --tls-cert-file"):
        parse(Options, [], prog="test", environ={})
    parse(Options, ["--tls-cert-file=a", "--tls-key-file=b", "--client-ca-file=c"], prog="test", environ={})


def test_help_lists_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read("--help")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "--node-name" in shown and "A 100% unique name." in shown and "--tls-cert-file" in shown


def test_unknown_flags_and_abbreviations_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--node-nam=x", "--nonsense"):
        with pytest.raises(SystemExit) as ended:
            read(flag)
        assert ended.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"), [("40", 40), ("1.5", 1.5), ("1h2m3s", 3723), ("500ms", 0.5), ("1.5h", 5400), (7, 7)]
)
def test_durations(text: object, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)
