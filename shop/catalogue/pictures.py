"""Pictures for the sample catalogue: abstract still lifes as small SVG files."""

from random import Random

WIDTH, HEIGHT = 400, 300


def _shape(random: Random, hue: int) -> str:
    """A vessel, a disc or a leaf standing on the table."""
    fill = f"hsl({hue % 360} {random.randint(35, 65)}% {random.randint(40, 72)}%)"
    x, y = random.randint(70, 330), random.randint(190, 235)
    size = random.randint(35, 80)
    match random.randrange(4):
        case 0:
            return f'<circle cx="{x}" cy="{y - size}" r="{size}" fill="{fill}"/>'
        case 1:
            path = f"M{x - size} {y - size}h{2 * size}a{size} {size} 0 0 1 {-2 * size} 0z"
        case 2:
            high = int(size * 2.2)
            path = (
                f"M{x - 16} {y - high}h32v{high // 3}q{size // 2} {high // 4} 8 {high - high // 3}"
            )
            path += f"h-48q{8 - size // 2} {high // 3 - high} 8 {high // 3 - high}z"
        case _:
            high = int(size * 2.4)
            path = f"M{x} {y}q{-size} {-high // 2} 0 {-high}q{size} {high // 2} 0 {high}z"
    return f'<path d="{path}" fill="{fill}"/>'


def still_life(seed: str, hue: int) -> str:
    """One picture; the same seed gives the same picture."""
    random = Random(seed)
    wall = f"hsl({hue} 32% 88%)"
    table = f"hsl({(hue + 25) % 360} 28% 74%)"
    shapes = "".join(_shape(random, hue + random.choice([0, 20, 150, 190])) for _ in range(4))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">'
        f'<path d="M0 0h{WIDTH}v{HEIGHT}H0z" fill="{wall}"/>'
        f'<path d="M0 205h{WIDTH}v95H0z" fill="{table}"/>'
        f"{shapes}</svg>\n"
    )
