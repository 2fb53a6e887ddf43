"""The made-up catalogue: words, and how product number N is made of them.

The same number always gives the same product, whatever else is in the catalogue.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

NEWEST = datetime(2025, 6, 1, 12, tzinfo=UTC)
PICTURES_PER_CATEGORY = 8

# root -> leaf -> what is sold there
TREE = {
    "Kitchen": {
        "Knives": ["chef's knife", "bread knife", "paring knife", "cleaver", "knife block"],
        "Pans": ["frying pan", "saucepan", "wok", "roasting tin", "stockpot"],
        "Coffee": ["coffee grinder", "moka pot", "pour-over set", "kettle", "milk jug"],
        "Tableware": ["dinner plate", "soup bowl", "teacup", "carafe", "serving tray"],
    },
    "Garden": {
        "Hand tools": ["trowel", "hand fork", "pruning shears", "dibber", "weeder"],
        "Seeds": ["tomato seeds", "basil seeds", "meadow mix", "radish seeds", "sunflower seeds"],
        "Planters": ["flower pot", "window box", "raised bed", "hanging basket", "plant stand"],
        "Watering": ["watering can", "garden hose", "sprinkler", "rain barrel", "mister"],
    },
    "Office": {
        "Notebooks": ["notebook", "sketchbook", "diary", "memo pad", "ring binder"],
        "Pens": ["fountain pen", "ballpoint pen", "pencil set", "marker set", "brush pen"],
        "Desk lamps": ["desk lamp", "clamp lamp", "reading light", "light bar", "drafting lamp"],
        "Organisers": ["desk tray", "pen cup", "file box", "cable box", "drawer insert"],
    },
    "Sport": {
        "Cycling": ["bicycle bell", "saddlebag", "bicycle pump", "front light", "handlebar tape"],
        "Running": ["running belt", "headlamp", "running vest", "arm pouch", "skipping rope"],
        "Climbing": ["chalk bag", "carabiner", "climbing rope", "harness", "belay device"],
        "Swimming": ["swimming goggles", "kickboard", "swim cap", "towel", "dry bag"],
    },
    "Music": {
        "Guitars": ["ukulele", "acoustic guitar", "guitar strap", "guitar stand", "capo"],
        "Keyboards": ["melodica", "synthesizer", "keyboard stand", "sustain pedal", "bench"],
        "Percussion": ["cajon", "tambourine", "kalimba", "bongo pair", "drumsticks"],
        "Listening": ["headphones", "record player", "loudspeaker", "radio", "record shelf"],
    },
    "Workshop": {
        "Saws": ["hand saw", "dovetail saw", "coping saw", "saw horse", "mitre box"],
        "Drills": ["hand drill", "drill bit set", "countersink", "brace", "awl"],
        "Clamps": ["bar clamp", "spring clamp", "bench vice", "corner clamp", "holdfast"],
        "Measuring": ["tape measure", "spirit level", "square", "calliper", "chalk line"],
    },
    "Living": {
        "Textiles": ["wool blanket", "cushion", "rug", "curtain", "tablecloth"],
        "Lighting": ["pendant lamp", "floor lamp", "candle holder", "lantern", "wall light"],
        "Shelves": ["bookcase", "wall shelf", "ladder shelf", "bookend", "magazine rack"],
        "Clocks": ["wall clock", "alarm clock", "kitchen timer", "hourglass", "mantel clock"],
    },
    "Travel": {
        "Backpacks": ["daypack", "rucksack", "sling bag", "rain cover", "packing cube"],
        "Suitcases": ["suitcase", "weekender", "garment bag", "luggage tag", "luggage belt"],
        "Bottles": ["water bottle", "vacuum flask", "folding cup", "lunch box", "bottle sleeve"],
        "Camping": ["tent", "sleeping mat", "camp stove", "hammock", "folding chair"],
    },
}
LEAVES = [(root, leaf) for root, leaves in TREE.items() for leaf in leaves]

ADJECTIVES = """small large light sturdy quiet plain classic modern rustic compact folding
northern coastal alpine everyday handmade""".split()
MATERIALS = """oak ash walnut steel brass copper linen wool cotton cork leather ceramic
enamel glass bamboo canvas""".split()
SENTENCES = [
    "Made of {material} by a workshop that has done little else for {years} years.",
    "The {noun} is {adjective} enough to be carried and built to stay.",
    "Every part can be replaced; we keep spares for {years} years.",
    "It gets better with use, and a drop of oil once a year is all it asks for.",
    "Our testers used one daily for {weeks} weeks and did not want to give it back.",
    "Comes in a plain box without plastic, with a card that tells where the {material} is from.",
    "If it does not please you, send it back within {weeks} weeks.",
    "Pairs well with the other things from our {leaf} shelves.",
    "The surface is left untreated, so no two look alike after a year.",
    "Drawn by two friends in a former dairy, and still made around the corner from it.",
]
OPINIONS = {
    1: ("Not for me", "It arrived late and looked used. Support was kind, though."),
    2: ("Hoped for more", "Fine at first sight, but the finish is rougher than in the picture."),
    3: ("Does its job", "Nothing special, nothing wrong. I would look around before buying again."),
    4: ("Very good", "Well made and pleasant to use. A little heavier than I had expected."),
    5: ("A joy", "I use it every day and have already given one away as a present."),
}
AUTHORS = (
    "Ada Bela Chiara Dmitri Elif Femi Greta Hana Ivo Jun Kofi Lena Milo Nour Ola Priya".split()
)


@dataclass
class SampleReview:
    """One review of a sample product."""

    author: str
    rating: int
    title: str
    text: str
    created_at: datetime


@dataclass
class SampleProduct:
    """All about product `number`, which starts from 1."""

    number: int
    leaf: str
    name: str
    description: str
    stock: int
    featured: bool
    created_at: datetime
    eur: Decimal
    usd: Decimal
    pictures: list[int]
    reviews: list[SampleReview]


def _review(random: Random, created_at: datetime) -> SampleReview:
    """One review, written after the product came in."""
    rating = random.choices([1, 2, 3, 4, 5], weights=[1, 2, 4, 8, 9])[0]
    title, text = OPINIONS[rating]
    later = timedelta(minutes=random.randrange(60, 60 * 24 * 90))
    return SampleReview(random.choice(AUTHORS), rating, title, text, created_at + later)


def _description(random: Random, **words: str) -> str:
    """Two paragraphs of two to four sentences."""
    sentences = random.sample(SENTENCES, k=random.randint(4, 8))
    numbers = {"years": random.randint(5, 60), "weeks": random.randint(2, 12)}
    written = [sentence.format(**words, **numbers) for sentence in sentences]
    middle = len(written) // 2
    return " ".join(written[:middle]) + "\n\n" + " ".join(written[middle:])


def product(number: int) -> SampleProduct:
    """Product `number`."""
    random = Random(number)
    root, leaf = LEAVES[number % len(LEAVES)]
    adjective, material = random.choice(ADJECTIVES), random.choice(MATERIALS)
    noun = random.choice(TREE[root][leaf])
    created_at = NEWEST - timedelta(minutes=37 * number)
    eur = random.randint(4, 180) - Decimal("0.05")
    words = {"adjective": adjective, "material": material, "noun": noun, "leaf": leaf.lower()}
    return SampleProduct(
        number=number,
        leaf=leaf,
        name=f"{adjective} {material} {noun}".capitalize(),
        description=_description(random, **words),
        stock=random.choice([0, 1, 3, 7, 12, 40, 150]),
        featured=number % 53 == 5,
        created_at=created_at,
        eur=eur,
        usd=(eur * Decimal("1.1")).quantize(Decimal("0.01")),
        pictures=random.sample(range(PICTURES_PER_CATEGORY), k=random.randint(1, 3)),
        reviews=[_review(random, created_at) for _ in range(random.choice([0, 0, 1, 1, 2, 4]))],
    )
