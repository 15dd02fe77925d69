"""Every reader of what others wrote or send, with sound content to start from and ways to damage them."""

from __future__ import annotations

from tests.malformed import media_readers, model_readers, network_readers, text_readers

READERS = (*text_readers.READERS, *media_readers.READERS, *model_readers.READERS, *network_readers.READERS)
