"""Texts with their references: equal ones, empty ones, several references, Chinese, Japanese, accents, repetitions."""

TEXTS = [
    (
        "a chest radiograph shows a large left pleural effusion",
        ["chest radiograph showing large left pleural effusion"],
    ),
    ("no pneumothorax", ["no pneumothorax", "there is no pneumothorax or effusion"]),
    ("", ["the heart is enlarged"]),
    ("the the the the the the", ["the heart is the size of the chest", "the cat"]),
    (
        "ct scan of the abdomen with a mass in the liver",
        ["axial ct of the abdomen shows a liver mass", "mass", "ct scan"],
    ),
    ("胸 部 x 线 片 显 示 左 侧 胸 腔 积 液", ["胸 部 x 线 显 示 左 侧 大 量 胸 腔 积 液"]),
    ("肺 炎 の 影", ["右 肺 に 肺 炎 の 影 が あ る", "肺 炎"]),
    ("une opacité du lobe inférieur gauche", ["opacité du lobe inférieur gauche évoquant une pneumonie"]),
    ("word", ["entirely different content here"]),
    ("fractures of the ribs were seen", ["a fracture of the rib is seen", "rib fractures seen"]),
]
"""Tokens stand between single spaces, so that every library cuts the texts alike."""
PREDICTIONS = [text for text, _ in TEXTS]
REFERENCES = [references for _, references in TEXTS]
