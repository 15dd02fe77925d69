"""Where pictures come from: cameras, streams, videos, picture folders."""
