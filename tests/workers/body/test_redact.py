"""Parameters whose values are hidden."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.body.redact import Parameters

hidden = Parameters(["password", "Access_Token", "user[pin]"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"/?password=x", b"/?password=[redacted]"),
        (b"/?a=1&PassWord=x&b=2", b"/?a=1&PassWord=[redacted]&b=2"),
        (b"/?pass%77ord=x", b"/?pass%77ord=[redacted]"),
        (b"/?password=x;y=z?q#f&b=2", b"/?password=[redacted]&b=2"),
        (b"/?a=1;password=x", b"/?a=1;password=[redacted]"),
        (b"/a;password=x/b?c=d", b"/a;password=[redacted]"),
        (b"/#access_token=x&state=1", b"/#access_token=[redacted]&state=1"),
        (b"/?next=/b?password=x", b"/?next=/b?password=[redacted]"),
        (b"/?password=", b"/?password=[redacted]"),
        (b"/?password=a&password=b", b"/?password=[redacted]&password=[redacted]"),
        (b"/?user%5Bpin%5D=1&user[pin]=2", b"/?user%5Bpin%5D=[redacted]&user[pin]=[redacted]"),
        (b"/?+password+=x", b"/?+password+=[redacted]"),
        (b"/?password", b"/?password"),
        (b"/password=x", b"/password=x"),
        (b"/?xpassword=x&passwords=y", b"/?xpassword=x&passwords=y"),
        (b"/?\xff=x&password=\xff", b"/?\xff=x&password=[redacted]"),
    ],
)
def test_a_target_becomes_this(text, expected):
    assert hidden.hide(text) == expected


def test_a_form_may_begin_with_a_parameter():
    assert hidden.hide(b"password=x&a=b", form=True) == b"password=[redacted]&a=b"


@given(st.lists(st.sampled_from([b"password=", b"secret", b"?", b"&", b";", b"#", b"=", b"%", b"a"]), max_size=30))
def test_what_is_hidden_once_has_nothing_left_to_hide(parts):
    once = hidden.hide(b"".join(parts), form=True)
    assert hidden.hide(once, form=True) == once


@given(st.binary(max_size=100))
def test_a_text_without_the_names_stays(text):
    if b"password" not in text.lower() and b"%" not in text and b"_token" not in text.lower():
        assert hidden.hide(text) == text
