from ._scores import energy_score as energy_score
from ._scores import probability_integral_transform as probability_integral_transform
from ._walk import score_generator as score_generator
from ._walk import summarise as summarise
