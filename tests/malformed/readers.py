"""Every reader of files that others wrote, with sound files to start from and ways to damage them."""

from __future__ import annotations

from tests.malformed import media_readers, model_readers, text_readers

READERS = (*text_readers.READERS, *media_readers.READERS, *model_readers.READERS)
