from . import simulate as simulate
from .spx_factors import read_spx_factors as read_spx_factors
from .table import read_table as read_table
