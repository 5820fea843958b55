"""The way to the upstream: which proxies, exceptions and authorities are taken (one JSON file per
claim), and where they end.

`words` in a case is what a refusal must say, null where there is none.
"""

import json
import os
from pathlib import Path
from typing import Any

import pulumi
import pytest

from components.registry_mirror import InvalidArgs, rules
from config.settings import Settings, parse
from tests.builders import FILES, args, values
from tests.serving import self_signed

CASES = Path(__file__).parent / "cases"
PROXY = "http://proxy.example.com:3128"
WITH_PASSWORD = "http://user:CANARY@proxy.example.com:3128"


def cases(folder: str) -> list[Any]:
    found = [
        pytest.param(json.loads(path.read_text()), id=path.stem)
        for path in sorted((CASES / folder).glob("*.json"))
    ]
    assert found
    return found


@pytest.mark.parametrize("case", cases("upstream_proxy"))
def test_a_proxy(case: dict[str, Any]) -> None:
    fault = rules.proxy(case["value"], case["secret"])
    assert (fault is None) == (case["words"] is None), fault
    assert (case["words"] or "") in (fault or "")
    assert "CAN" not in (fault or "")


@pytest.mark.parametrize("case", cases("upstream_no_proxy"))
def test_what_is_reached_without_it(case: dict[str, Any]) -> None:
    fault = rules.no_proxy(case["value"])
    assert (fault is None) == (case["words"] is None), fault
    assert (case["words"] or "") in (fault or "")


def authority(folder: Path, name: str = "ca") -> tuple[str, str]:
    """A certificate that openssl makes, and its private key."""
    certificate, key = self_signed(folder, name)
    return certificate.read_text(), key.read_text()


def test_authorities_are_certificates_one_or_several_with_whatever_stands_between_them(
    tmp_path: Path,
) -> None:
    one, other = authority(tmp_path)[0], authority(tmp_path, "other")[0]
    for text in (one, one + other, f"# our own\n{one}\nand\n{other}", one.replace("\n", "\r\n")):
        assert rules.authorities(text) is None


def test_what_is_no_authority_is_refused_in_its_own_words(tmp_path: Path) -> None:
    certificate, key = authority(tmp_path)
    lines = certificate.splitlines()
    wrong = {
        key: "holds a private key",
        certificate + key: "holds a private key",
        "": "no certificate in PEM form",
        "/etc/ssl/corp.pem": "it looks like a path",
        "\n".join([lines[0], *lines[2:]]): "is damaged",
        f"{lines[0]}\nAAAA\n{lines[-1]}\n": "is damaged",
        certificate * 1000: "more than 500000 bytes",
    }
    for text, words in wrong.items():
        fault = rules.authorities(text) or ""
        assert words in fault
        assert lines[1] not in fault


def configured(files: dict[str, str], secret: tuple[str, ...] = (), **changed: Any) -> Settings:
    def read(name: str) -> str:
        if name not in {**FILES, **files}:
            raise FileNotFoundError(2, os.strerror(2), name)
        return {**FILES, **files}[name]

    return parse(values(**changed), read, secret)


def refused(files: dict[str, str], secret: tuple[str, ...] = (), **changed: Any) -> list[str]:
    with pytest.raises(InvalidArgs) as error:
        configured(files, secret, **changed)
    return [str(fault) for fault in error.value.faults]


def test_the_file_that_is_named_is_read_and_its_text_is_handed_on(tmp_path: Path) -> None:
    certificate, _ = authority(tmp_path)
    assert (
        configured({"corp.pem": certificate}, upstreamCa="corp.pem").mirror.upstream_ca
        == certificate
    )
    assert configured({}).mirror.upstream_ca is None


def test_a_file_that_is_none_is_one_message_each(tmp_path: Path) -> None:
    certificate, key = authority(tmp_path)
    assert refused({}, upstreamCa="gone.pem") == [
        "upstreamCa: cannot be read: No such file or directory (got 'gone.pem')"
    ]
    (said,) = refused({"corp.pem": certificate + key}, upstreamCa="corp.pem")
    assert said.startswith("upstreamCa: holds a private key")
    assert said.endswith("(got 'corp.pem')")
    (said,) = refused({"corp.pem": "hello"}, upstreamCa="corp.pem")
    assert "no certificate in PEM form" in said


def test_a_proxy_with_a_password_must_be_a_secret_and_then_is_one() -> None:
    (said,) = refused({}, upstreamProxy=WITH_PASSWORD)
    assert "pulumi config set --secret upstreamProxy" in said
    assert "CANARY" not in said
    assert configured({}, upstreamProxy=PROXY).mirror.upstream_proxy == PROXY
    for value in (PROXY, WITH_PASSWORD):
        assert isinstance(
            configured({}, ("upstreamProxy",), upstreamProxy=value).mirror.upstream_proxy,
            pulumi.Output,
        )


def test_a_secret_that_is_no_proxy_is_refused_in_the_preview_without_its_value() -> None:
    (said,) = refused(
        {}, ("upstreamProxy",), upstreamProxy="ftp://user:CANARY@proxy.example.com:3128"
    )
    assert said == (
        "upstreamProxy: must begin with http://, https:// or socks5://: a URL like"
        " http://proxy.example.com:3128 (got '[secret]')"
    )


@pytest.mark.parametrize(
    ("changed", "key", "words"),
    [
        ({"upstream_proxy": "proxy:3128"}, "upstream_proxy", "must begin with http://"),
        ({"upstream_proxy": WITH_PASSWORD}, "upstream_proxy", "pulumi.Output.secret("),
        ({"upstream_proxy": 3128}, "upstream_proxy", "must be a text"),
        (
            {"upstream_proxy": PROXY, "upstream_no_proxy": ["a.test", "*"]},
            "upstream_no_proxy[1]",
            "excepts everybody",
        ),
        (
            {"upstream_proxy": PROXY, "upstream_no_proxy": "a.test"},
            "upstream_no_proxy",
            "must be a list",
        ),
        ({"upstream_no_proxy": ["a.test"]}, "upstream_no_proxy", "without upstream_proxy"),
        ({"upstream_ca": "/etc/ssl/corp.pem"}, "upstream_ca", "it looks like a path"),
        ({"upstream_ca": pulumi.Output.from_input("x")}, "upstream_ca", "not a pulumi.Output"),
        ({"tag_days": -1}, "tag_days", "0 or more"),
    ],
)
def test_the_args_refuse_each_with_its_key_and_all_together(
    changed: dict[str, Any], key: str, words: str
) -> None:
    with pytest.raises(InvalidArgs) as error:
        args(**changed, max_parallel=0)
    told = {fault.key: str(fault) for fault in error.value.faults}
    assert set(told) == {key, "max_parallel"}
    assert words in told[key]
    assert "CANARY" not in told[key]


def test_a_program_may_hand_over_a_proxy_that_is_a_secret() -> None:
    assert args(upstream_proxy=pulumi.Output.secret(WITH_PASSWORD)).faults() == []
    assert "CANARY" not in repr(args(upstream_proxy=pulumi.Output.secret(WITH_PASSWORD)))
