from . import simulate as simulate
from .databento import ROOT_RULES as ROOT_RULES
from .databento import RootRule as RootRule
from .databento import download_databento as download_databento
from .databento import read_databento as read_databento
from .databento import read_opra_contracts as read_opra_contracts
from .spx_factors import read_spx_factors as read_spx_factors
from .table import read_table as read_table
