"""Which matches are believed."""

from dataclasses import replace

import numpy as np
import pytest

from opticstream_smk.mosaic.correlate import Peak
from opticstream_smk.mosaic.pairs import Pair, accepted, outweighs, together_outweigh
from opticstream_smk.mosaic.subpixel import Offset


def pair(*, evidence=8.0, margin=30.0, sigma=0.1, shift=(0.0, 100.0)):
    peak = Peak(round(shift[0]), round(shift[1]), 0.5, evidence, margin)
    return Pair(0, 1, peak, Offset(np.array(shift), np.eye(2) * sigma**2))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"shift": (1.0, 102.0)}, True),
        ({"shift": (30.0, 100.0)}, False),  # ten sigmas off, and little evidence
        ({"shift": (30.0, 100.0), "evidence": 200.0, "margin": 150.0}, True),  # the stage slipped
        ({"shift": (30.0, 100.0), "evidence": 200.0}, True),
        ({"margin": 7.0}, False),
    ],
    ids=str,
)
def test_a_match_far_off_needs_more(given, kept):
    sigma = np.array([3.0, 3.0])
    assert outweighs(pair(**given), np.array([0.0, 100.0]), sigma) == kept


@pytest.mark.parametrize(
    ("shifts", "kept"),
    [
        # Tile 1 is the second of the first pair and the first of the second one.
        (((5.0, 4.0), (-5.0, -4.0)), [True, True]),
        (((5.0, 4.0), (-6.0, -3.0)), [True, True]),
        (((5.0, 4.0), (5.0, 4.0)), [False, False]),
        (((5.0, 4.0), (-5.0, 8.0)), [False, False]),
        (((5.0, 4.0), None), [False, False]),
    ],
    ids=str,
)
def test_weak_matches_that_agree_on_a_slip_are_kept(shifts, kept):
    ends = ((0, 1), (1, 2))
    pairs = [
        Pair(*tiles)
        if shift is None
        else replace(
            pair(evidence=14.0, margin=15.0, shift=shift), tile_a=tiles[0], tile_b=tiles[1]
        )
        for tiles, shift in zip(ends, shifts, strict=True)
    ]
    expected, sigma = np.zeros((2, 2)), np.full((2, 2), 0.35)
    alone = [outweighs(*given) for given in zip(pairs, expected, sigma, strict=True)]
    assert alone == [False, False]
    assert together_outweigh(pairs, alone, expected, sigma) == kept


def test_nothing_outweighs_without_an_offset():
    assert not outweighs(Pair(0, 1), np.zeros(2), np.ones(2))
    assert Pair(0, 1).support == 0


def test_a_sharp_match_without_rival_holds_a_tile_by_itself():
    assert pair(evidence=3.5).support >= 6
    assert pair(evidence=3.5, sigma=0.6).support == 3.5
    assert pair(evidence=3.5, margin=5.0).support == 3.5
    assert pair(evidence=50.0).support == 50.0


def test_tiles_are_held_by_several_weak_matches_or_one_strong():
    pairs = np.array([(0, 1), (1, 2), (0, 2), (2, 3), (4, 5)])
    sure = np.array([True, True, True, True, True])
    evidence = np.array([4.0, 4.0, 4.0, 4.0, 7.0])
    # Tile 3 hangs on one weak match; the others have two each.
    assert accepted(pairs, sure, evidence).tolist() == [True, True, True, False, True]
    assert not accepted(pairs, np.zeros(5, dtype=bool), evidence).any()
