from ._dynamics import dynamics_figures as dynamics_figures
from ._similarity import structural_similarity as structural_similarity
from ._stress import stress as stress
from ._views import latents as latents
from ._views import reconstruct as reconstruct
from ._views import reconstruction_figures as reconstruction_figures
