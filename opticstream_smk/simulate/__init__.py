"""Synthetic acquisitions with known truth, in the instruments' own formats."""

from opticstream_smk.simulate.acquisition import SimulatedAcquisition, simulate_psoct
from opticstream_smk.simulate.settings import AcquisitionSettings

__all__ = ["AcquisitionSettings", "SimulatedAcquisition", "simulate_psoct"]
