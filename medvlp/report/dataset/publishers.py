"""Who published the data that sources read, for the credit that licences and good manners ask for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Publication:
    """A publication that describes a data set."""

    title: str
    authors: str
    venue: str
    year: int
    url: str

    @property
    def citation(self) -> str:
        """One line."""
        return f"{self.authors} {self.title}. {self.venue}, {self.year}."


PUBLICATIONS = {
    "pmc": Publication(
        "PMC Open Access Subset",
        "National Library of Medicine (US).",
        "Bethesda (MD)",
        2003,
        "https://pmc.ncbi.nlm.nih.gov/tools/openftlist/",
    ),
    "mni152": Publication(
        "Unbiased average age-appropriate atlases for pediatric studies",
        "Fonov V. et al.",
        "NeuroImage",
        2011,
        "https://doi.org/10.1016/j.neuroimage.2010.07.033",
    ),
    "rocov2": Publication(
        "ROCOv2: Radiology Objects in COntext Version 2, an Updated Multimodal Image Dataset",
        "Rückert J. et al.",
        "Scientific Data",
        2024,
        "https://doi.org/10.1038/s41597-024-03496-6",
    ),
    "roco": Publication(
        "Radiology Objects in COntext (ROCO): A Multimodal Image Dataset",
        "Pelka O. et al.",
        "LABELS, MICCAI workshop",
        2018,
        "https://doi.org/10.1007/978-3-030-01364-6_20",
    ),
    "medmnist": Publication(
        "MedMNIST v2: A large-scale lightweight benchmark for 2D and 3D biomedical image classification",
        "Yang J. et al.",
        "Scientific Data",
        2023,
        "https://doi.org/10.1038/s41597-022-01721-8",
    ),
    "vqa_rad": Publication(
        "A dataset of clinically generated visual questions and answers about radiology images",
        "Lau J. J. et al.",
        "Scientific Data",
        2018,
        "https://doi.org/10.1038/sdata.2018.251",
    ),
    "slake": Publication(
        "SLAKE: A Semantically-Labeled Knowledge-Enhanced Dataset for Medical Visual Question Answering",
        "Liu B. et al.",
        "ISBI",
        2021,
        "https://arxiv.org/abs/2102.09542",
    ),
    "pathvqa": Publication(
        "PathVQA: 30000+ Questions for Medical Visual Question Answering",
        "He X. et al.",
        "arXiv",
        2020,
        "https://arxiv.org/abs/2003.10286",
    ),
    "pmc_oa": Publication(
        "PMC-CLIP: Contrastive Language-Image Pre-training using Biomedical Documents",
        "Lin W. et al.",
        "MICCAI",
        2023,
        "https://arxiv.org/abs/2303.07240",
    ),
    "pmc_vqa": Publication(
        "PMC-VQA: Visual Instruction Tuning for Medical Visual Question Answering",
        "Zhang X. et al.",
        "arXiv",
        2023,
        "https://arxiv.org/abs/2305.10415",
    ),
    "quilt": Publication(
        "Quilt-1M: One Million Image-Text Pairs for Histopathology",
        "Ikezogwo W. O. et al.",
        "NeurIPS Datasets and Benchmarks",
        2023,
        "https://arxiv.org/abs/2306.11207",
    ),
    "biomedica": Publication(
        "BIOMEDICA: An Open Biomedical Image-Caption Archive, Dataset, and Vision-Language Models Derived from "
        "Scientific Literature",
        "Lozano A. et al.",
        "CVPR",
        2025,
        "https://arxiv.org/abs/2501.07171",
    ),
    "unimed": Publication(
        "UniMed-CLIP: Towards a Unified Image-Text Pretraining Paradigm for Diverse Medical Imaging Modalities",
        "Khattak M. U. et al.",
        "arXiv",
        2024,
        "https://arxiv.org/abs/2412.10372",
    ),
    "omnimedvqa": Publication(
        "OmniMedVQA: A New Large-Scale Comprehensive Evaluation Benchmark for Medical LVLM",
        "Hu Y. et al.",
        "CVPR",
        2024,
        "https://arxiv.org/abs/2402.09181",
    ),
    "kvasir_vqa": Publication(
        "Kvasir-VQA: A Text-Image Pair GI Tract Dataset",
        "Gautam S. et al.",
        "VLM4Bio, ACM Multimedia workshop",
        2024,
        "https://arxiv.org/abs/2409.01437",
    ),
}
"""Source → its publication. Sources that read what anyone may have (a folder, a table, DICOM) have none."""
