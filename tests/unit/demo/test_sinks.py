from __future__ import annotations

import smtplib
import time
import urllib.error
import urllib.request

import pytest

from demo.sinks import SECRET, MailSink, WebSink, listening
from tasks.webhooks import signatures


@pytest.fixture
def web():
    sink = WebSink()
    with listening(sink):
        yield sink


def _post(web, path, call="c1", secret=SECRET):
    now = int(time.time())
    headers = {
        "webhook-id": call,
        "webhook-timestamp": str(now),
        "webhook-signature": signatures(secret, call, now, b"{}"),
    }
    try:
        with urllib.request.urlopen(urllib.request.Request(web.url + path, b"{}", headers)) as answer:
            return answer.status
    except urllib.error.HTTPError as refused:
        refused.close()
        return refused.code


def test_a_webhook_with_a_forged_signature_is_refused(web):
    assert _post(web, "/orders") == 204
    assert _post(web, "/orders", secret="whsec_Zm9yZ2Vk") == 401


def test_a_busy_endpoint_answers_each_call_at_the_third_knock(web):
    assert [_post(web, "/busy", call="a") for _ in range(3)] == [503, 503, 204]
    assert _post(web, "/busy", call="b") == 503
    assert web.knocks == {"a": 3, "b": 1}


def test_the_mail_sink_refuses_once_always_or_never():
    sink = MailSink()
    with listening(sink), smtplib.SMTP(*sink.server_address) as client:
        message = "Message-ID: <c1@x>\r\n\r\n.dots survive\r\n"
        client.sendmail("a@x", ["ada@x"], message)
        with pytest.raises(smtplib.SMTPDataError, match="451"):
            client.sendmail("a@x", ["later@x"], message.replace("c1", "c2"))
        client.sendmail("a@x", ["later@x"], message.replace("c1", "c2"))
        with pytest.raises(smtplib.SMTPDataError, match="550"):
            client.sendmail("a@x", ["nobody@x"], message.replace("c1", "c3"))

    assert sink.knocks == {"c1": 1, "c2": 2, "c3": 1}
