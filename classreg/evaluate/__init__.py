"""How good a registration is: overlap, surfaces, landmarks, deformation, linear error, similarity, and statistics.

Report more than one: each can be excellent while the others are terrible. The functions take arrays (and a `Grid`
where millimetres matter), no files. Where conventions differ, the name or an argument says which one is meant, and a
dict that is returned says so under "convention". What Learn2Reg's script prints is in `evaluate.learn2reg`; every
measure has its formula and its trap in docs/evaluate.md.

Must not import: faces (cli, plot, report).
"""

from ..jacobian import jacobian_determinant
from . import learn2reg, similarity, statistics
from .deformation import folding, sd_jacobian, sd_log_jacobian
from .digital import digital_folding, folding_share, one_sided_determinant
from .fields import bending_energy, curl_magnitude, field_rmse, inverse_consistency, transform_rmse
from .groupwise import group_errors, group_folding, group_overlap, group_surfaces, warping_index
from .landmarks import landmark_errors, landmark_scores, relative_errors, robustness, snap_to_voxel, tre
from .linear import corner_distance, linear_errors, rms_deviation, rms_deviation_box, rotation_angle, theta_rates
from .overlap import (
    dice,
    false_negatives,
    false_positives,
    jaccard,
    mean_over_labels,
    pooled_overlap,
    target_overlap,
    volume_similarity,
    warped_overlap,
)
from .resources import measured
from .statistics import compare, paired
from .surfaces import asd, assd, hausdorff, hd95, surface_dice, surface_distances, surface_scores

__all__ = ["asd", "assd", "bending_energy", "compare", "corner_distance", "curl_magnitude", "dice", "digital_folding",
           "false_negatives", "false_positives", "field_rmse", "folding", "folding_share", "group_errors",
           "group_folding", "group_overlap", "group_surfaces", "hausdorff", "hd95", "inverse_consistency", "jaccard",
           "jacobian_determinant", "landmark_errors", "landmark_scores", "learn2reg", "linear_errors",
           "mean_over_labels", "measured", "one_sided_determinant", "paired", "pooled_overlap", "relative_errors",
           "rms_deviation", "rms_deviation_box", "robustness", "rotation_angle", "sd_jacobian", "sd_log_jacobian",
           "similarity", "snap_to_voxel", "statistics", "surface_dice", "surface_distances", "surface_scores",
           "target_overlap", "theta_rates", "transform_rmse", "tre", "volume_similarity", "warped_overlap",
           "warping_index"]
