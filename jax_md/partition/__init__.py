"""Neighbor lists, and sums over neighbors.

`neighbor_list` makes the functions that build and update a list, `neighbor_sum` and
`neighbor_total` add up any function of two particles over it.
"""

from .cell_list import CellList as CellList
from .cell_list import CellListFns as CellListFns
from .cell_list import cell_list as cell_list
from .cell_list import count_cell_filling as count_cell_filling
from .cell_list import shift_array as shift_array
from .cell_list import unflatten_cell_buffer as unflatten_cell_buffer
from .errors import PEC as PEC
from .errors import PartitionError as PartitionError
from .errors import PartitionErrorCode as PartitionErrorCode
from .formats import Dense as Dense
from .formats import NeighborListFormat as NeighborListFormat
from .formats import OrderedSparse as OrderedSparse
from .formats import Sparse as Sparse
from .formats import is_box_valid as is_box_valid
from .formats import is_format_valid as is_format_valid
from .formats import is_sparse as is_sparse
from .graph import GraphsTuple as GraphsTuple
from .graph import to_dense as to_dense
from .graph import to_jraph as to_jraph
from .list_types import NeighborList as NeighborList
from .list_types import NeighborListFns as NeighborListFns
from .mask import neighbor_list_mask as neighbor_list_mask
from .neighbor_list import MaskFn as MaskFn
from .neighbor_list import neighbor_list as neighbor_list
from .neighbor_sum import neighbor_sum as neighbor_sum
from .neighbor_sum import neighbor_total as neighbor_total
