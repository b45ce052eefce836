"""
E-mail against a real SMTP server.
"""

from __future__ import annotations

import ssl

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from trustme import CA

from celery_platform import PII, Dead
from celery_platform.current import RunningCall, running
from celery_platform.outcomes import Call
from tasks.email import send_email
from tasks.smtp import TemporaryRefusal
from tests.servers import SmtpServer, free_port

ADA = PII("ada@example.com")
WELCOME = PII({"name": "Ada & Co", "link": "https://example.com/?a=1&b=2"})


@pytest.fixture(autouse=True)
def _call(monkeypatch, smtp_server):
    monkeypatch.setenv("TASKS_SMTP_URL", smtp_server.url())
    monkeypatch.setenv("TASKS_MAIL_FROM", "shop@example.org")
    with running(RunningCall(Call(id="call-1", task="tasks.email.send_email"))):
        yield


def test_a_message_arrives_as_text_and_as_html(smtp_server):
    identity = send_email(ADA, "Grüße", "welcome", WELCOME)

    received = smtp_server.messages[0]
    text, html = received.message.iter_parts()
    assert (received.sender, received.recipients) == ("shop@example.org", ("ada@example.com",))
    assert received.message["Subject"] == "Grüße"
    assert received.message["Message-ID"] == identity == "<call-1@example.org>"
    assert "Hello Ada & Co," in text.get_content()
    assert "Hello Ada &amp; Co," in html.get_content()


def test_a_template_without_html_is_sent_as_text_alone(smtp_server):
    send_email(ADA, "Report", "report_ready", PII({"source": "orders.csv", "rows": 3, "rejected": 1}))

    assert smtp_server.messages[0].message.get_content_type() == "text/plain"


def test_a_second_run_of_the_same_call_can_be_recognised(smtp_server):
    assert send_email(ADA, "Hello", "welcome", WELCOME) == send_email(ADA, "Hello", "welcome", WELCOME)


def test_attachments_travel_whole(smtp_server, tmp_path):
    (tmp_path / "report.csv").write_bytes(b"a,b\r\n1,2\r\n")

    send_email(ADA, "Report", "welcome", WELCOME, [tmp_path / "report.csv"])

    attachment = next(smtp_server.messages[0].message.iter_attachments())
    assert (attachment.get_filename(), attachment.get_content_type()) == ("report.csv", "text/csv")
    assert attachment.get_payload(decode=True) == b"a,b\r\n1,2\r\n"


def test_a_server_that_says_later_is_tried_again(smtp_server):
    smtp_server.refuse(answer="451 4.7.1 greylisted")

    with pytest.raises(TemporaryRefusal, match="451"):
        send_email(ADA, "Hello", "welcome", WELCOME)


def test_a_server_that_says_never_buries_the_call_without_naming_the_recipient(smtp_server):
    smtp_server.refuse(answer="550 5.1.1 <ada@example.com> unknown")

    with pytest.raises(Dead, match="550") as dead:
        send_email(ADA, "Hello", "welcome", WELCOME)
    assert "ada@" not in dead.value.reason


def test_a_server_that_is_not_there_is_tried_again(monkeypatch):
    monkeypatch.setenv("TASKS_SMTP_URL", f"smtp://127.0.0.1:{free_port()}")

    with pytest.raises(OSError, match="refused"):
        send_email(ADA, "Hello", "welcome", WELCOME)


@pytest.mark.parametrize("to", ["ada", "ada@example.com\r\nBcc: eve@example.com", "a@b.c, eve@example.com", "", "@"])
def test_an_address_that_is_none_is_dead_and_nothing_is_sent(smtp_server, to):
    with pytest.raises(Dead, match="not a header value"):
        send_email(PII(to), "Hello", "welcome", WELCOME)
    assert smtp_server.attempts == 0


def test_a_subject_cannot_smuggle_a_header_in(smtp_server):
    with pytest.raises(Dead, match="not a header value"):
        send_email(ADA, "Hello\r\nBcc: eve@example.com", "welcome", WELCOME)
    assert smtp_server.attempts == 0


@pytest.mark.parametrize("template", ["none", "../email", "welcome.html", ""])
def test_a_template_that_is_not_there_is_dead(template):
    with pytest.raises(Dead, match="template"):
        send_email(ADA, "Hello", template, WELCOME)


def test_a_value_the_template_needs_and_does_not_get_is_dead():
    with pytest.raises(Dead, match="'link' is undefined"):
        send_email(ADA, "Hello", "welcome", PII({"name": "Ada"}))


def test_a_missing_attachment_is_dead(tmp_path):
    with pytest.raises(Dead, match="does not exist"):
        send_email(ADA, "Hello", "welcome", WELCOME, [tmp_path / "none.pdf"])


@pytest.fixture
def guarded_server(tmp_path, monkeypatch):
    """
    A server that wants STARTTLS and a password.
    """
    authority = CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    def check(_server, _session, _envelope, _mechanism, data):
        return AuthResult(success=(data.login, data.password) == (b"ada", b"secret"), handled=False)

    server = SmtpServer()
    controller = Controller(
        server,
        hostname="localhost",
        port=free_port(),
        tls_context=context,
        require_starttls=True,
        auth_required=True,
        authenticator=check,
    )
    controller.start()
    server.port = controller.port
    yield server
    controller.stop()


def test_a_password_is_given_after_the_connection_is_encrypted(guarded_server, monkeypatch):
    monkeypatch.setenv("TASKS_SMTP_URL", f"smtp+starttls://ada:secret@localhost:{guarded_server.port}")

    send_email(ADA, "Hello", "welcome", WELCOME)

    assert len(guarded_server.messages) == 1


def test_a_wrong_password_is_tried_again_because_an_operator_can_mend_it(guarded_server, monkeypatch):
    monkeypatch.setenv("TASKS_SMTP_URL", f"smtp+starttls://ada:wrong@localhost:{guarded_server.port}")

    with pytest.raises(TemporaryRefusal, match="credentials") as refused:
        send_email(ADA, "Hello", "welcome", WELCOME)
    assert "wrong" not in str(refused.value)


def test_a_certificate_nobody_vouches_for_is_not_talked_to(guarded_server, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("TASKS_SMTP_URL", f"smtp+starttls://ada:secret@localhost:{guarded_server.port}")

    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        send_email(ADA, "Hello", "welcome", WELCOME)
    assert guarded_server.messages == []
