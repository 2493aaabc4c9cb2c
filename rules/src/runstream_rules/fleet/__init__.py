"""The second stage's core: one run with all of its ranks."""

from runstream_rules.fleet.packing import pack_head, pack_track, unpack
from runstream_rules.fleet.ranks import Ranks
from runstream_rules.fleet.run import RunWatch, TrackKey
from runstream_rules.fleet.track import RankTrack

__all__ = ["RankTrack", "Ranks", "RunWatch", "TrackKey", "pack_head", "pack_track", "unpack"]
