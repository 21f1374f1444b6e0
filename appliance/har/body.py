"""Bodies of an event as an HTTP Archive holds them: the excerpt that the event has, and what it lacks in words."""

from __future__ import annotations

import base64
from typing import Any

Json = dict[str, Any]


def content(message: Json, own: Json) -> Json:
    """Return the `content` of a response. message: `http.response` of the event. own: `appliance.response.body`."""
    wire = message.get("body", {}).get("bytes", 0)
    size = own.get("decoded_bytes", wire)
    made: Json = {"size": size, "mimeType": message.get("mime_type", "")}
    if size != wire:
        made["compression"] = size - wire
    text, binary = message.get("body", {}).get("content"), own.get("content_base64")
    if text is not None:
        shown = len(text.encode())
        made["text"] = text
    elif binary is not None:
        shown = len(base64.b64decode(binary))
        made["text"], made["encoding"] = binary, "base64"
    else:
        return made
    if shown < size:
        made["comment"] = f"the first {shown} of {size} bytes"
    return made


def post_data(message: Json) -> Json | None:
    """Return the `postData` of a request, or None if the event has no text of its body."""
    text = message.get("body", {}).get("content")
    if text is None:
        return None
    made: Json = {"mimeType": message.get("mime_type", ""), "text": text}
    shown, size = len(text.encode()), message["body"].get("bytes", 0)
    return {**made, "comment": f"the first {shown} of {size} bytes"} if shown < size else made
