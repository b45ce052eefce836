from __future__ import annotations

import pytest

from tasks.smtp import MailServer, PermanentRefusal, TemporaryRefusal, _refusal


def test_a_url_names_everything_a_server_needs():
    server = MailServer.from_url("smtp+starttls://ada%40example.com:s%3Acret@mail.example.com")

    assert (server.host, server.port, server.security) == ("mail.example.com", 587, "smtp+starttls")
    assert (server.user, server.password) == ("ada@example.com", "s:cret")
    assert "s:cret" not in repr(server)


def test_a_password_in_clear_is_refused_unless_it_stays_on_this_machine():
    with pytest.raises(ValueError, match="in clear"):
        MailServer.from_url("smtp://ada:secret@mail.example.com")

    assert MailServer.from_url("smtp://ada:secret@localhost").password == "secret"


@pytest.mark.parametrize("url", ["mail.example.com:25", "imap://mail.example.com", "smtp://"])
def test_a_url_that_names_no_mail_server_is_refused(url):
    with pytest.raises(ValueError, match="TASKS_SMTP_URL expected"):
        MailServer.from_url(url)


def test_the_first_digit_of_a_reply_decides_and_the_recipient_is_never_quoted():
    later = _refusal(451, b"4.7.1 <ada@example.com> greylisted", "ada@example.com")
    never = _refusal(550, b"5.1.1 <ada@example.com> unknown", "ada@example.com")

    assert isinstance(later, TemporaryRefusal)
    assert isinstance(never, PermanentRefusal)
    assert "ada" not in f"{later} {never}"
