"""No password reaches a file, a log or a screen, however it is spelled."""

from __future__ import annotations

import string
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from distmer.addresses import holds_secret, mask, masked
from distmer.config import TrackingConfig
from distmer.storage import place
from distmer.types import BadInput

# Letters that stand in no other part of the address below, so that finding them means finding the password.
PASSWORDS = st.text(
    st.sampled_from("XYZQ" + string.digits + string.punctuation + " éß"), min_size=4, max_size=20
)


@settings(deadline=None)
@given(PASSWORDS, st.sampled_from(["postgresql", "mysql+pymysql", "https"]))
@example("pa/ss", "postgresql")
@example("p@ss", "postgresql")
@example("pa ss", "postgresql")
@example("####", "postgresql")
@example("pa:/@?ss", "https")
def test_a_password_is_refused_in_the_settings_and_shown_nowhere(password: str, scheme: str) -> None:
    for written in (password, quote(password, safe="")):
        address = f"{scheme}://ada:{written}@db.lab/mlflow"
        assert holds_secret(address)
        with pytest.raises(ValidationError, match="uri holds a password"):
            TrackingConfig(uri=address)
        assert masked(address) == f"{scheme}://***@db.lab/mlflow"
        error = f"could not connect to {address} as ada with {written} or {password}: refused"
        shown = mask(error, address)
        assert password not in shown and written not in shown
        assert "could not connect to" in shown


@settings(deadline=None)
@given(st.text(st.sampled_from("XYZQ" + string.digits + "-_."), min_size=4, max_size=20))
def test_a_secret_of_the_query_is_one_too(secret: str) -> None:
    for name in ("password", "sslpassword", "token", "access_token", "api_key"):
        address = f"postgresql://db/mlflow?sslmode=require&{name}={secret}"
        assert holds_secret(address)
        assert masked(address) == f"postgresql://db/mlflow?sslmode=require&{name}=***"
        assert secret not in mask(f"{address}: {secret} is wrong", address)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://db/x?user=ada&pass=hunter2",
        "postgresql://db/x?passphrase=hunter2&sslmode=require",
        "https://mlflow.lab/x?sig=hunter2",
        "https://mlflow.lab/x;password=hunter2",
        "https://mlflow.lab/x#token=hunter2",
        "postgresql://db/x?pass%77ord=hunter2",
        "mssql+pyodbc:///?odbc_connect=DRIVER%3DX%3BUID%3Dada%3BPWD%3Dhunter2%3BServer%3Ddb",
    ],
)
def test_a_secret_under_any_name_and_sign_is_refused_and_masked(address: str) -> None:
    assert holds_secret(address)
    assert "hunter2" not in masked(address)
    assert "hunter2" not in mask(f"{address}: login with hunter2 failed", address)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "http://127.0.0.1:5000",
            "https://mlflow.lab/team",
            "sqlite:////data/me@lab/mlflow.db",
            "sqlite:///C:/me/mlflow.db",
        ),
        *(
            "postgresql://ada@db/mlflow",
            "databricks://profile",
            "databricks",
            "mlruns",
            "postgresql://db:5432/x?sslmode=require",
        ),
    ],
)
def test_an_address_without_a_password_is_taken(address: str) -> None:
    assert not holds_secret(address)
    assert TrackingConfig(uri=address).uri == address


@pytest.mark.parametrize(
    "address", ["s3://key:sec@bucket/x", "s3://key:sec/ret@bucket/x", "gs://a:b/c/d@bucket"]
)
def test_a_storage_address_with_credentials_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(BadInput, match=r"s://\*\*\*|s3://\*\*\*") as refused:
        place(address)
    assert "sec" not in str(refused.value)
