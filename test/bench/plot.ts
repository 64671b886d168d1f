/** One line of a plot. */
export interface Series {
  readonly name: string
  readonly points: readonly (readonly [x: number, y: number])[]
  /** Drawn with dashes. */
  readonly dashed?: boolean
}

/** What {@link linePlot} draws. */
export interface LinePlot {
  readonly title: string
  readonly xLabel: string
  readonly yLabel: string
  readonly series: readonly Series[]
  /** The x axis is logarithmic; all x are above 0 then. */
  readonly xLog?: boolean
  /** Values of y that are marked by a line across, with what they mean. */
  readonly marks?: readonly { readonly y: number; readonly name: string }[]
  /** The lowest y shown; 0 when left out. */
  readonly yFrom?: number
}

const WIDTH = 720
const HEIGHT = 400
const LEFT = 64
const RIGHT = 168
const TOP = 40
const BOTTOM = 52
const TICKS = 6
const COLOURS = ['#1b6ca8', '#d1495b', '#2e8b57', '#edae49', '#7d4f9e', '#00798c', '#8d6b48', '#444444']

/** A line plot as an SVG document of its own (SVG 1.1), readable on light and dark pages. */
export function linePlot(plot: LinePlot): string {
  const { series, marks = [], yFrom = 0, xLog = false } = plot
  const xs = series.flatMap(({ points }) => points.map(([x]) => x))
  const ys = [...series.flatMap(({ points }) => points.map(([, y]) => y)), ...marks.map(({ y }) => y)]
  const map = (x: number): number => (xLog ? Math.log10(x) : x)
  const [x0, x1] = [Math.min(...xs.map(map)), Math.max(...xs.map(map))]
  const yTicks = niceTicks(yFrom, Math.max(...ys))
  const yTop = yTicks.at(-1)!
  const px = (x: number): number => LEFT + ((map(x) - x0) / (x1 - x0 || 1)) * (WIDTH - LEFT - RIGHT)
  const py = (y: number): number =>
    HEIGHT - BOTTOM - ((y - yFrom) / (yTop - yFrom || 1)) * (HEIGHT - TOP - BOTTOM)
  const xTicks = xLog
    ? [...new Set(xs)].toSorted((a, b) => a - b)
    : niceTicks(Math.min(...xs), Math.max(...xs))
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>`,
    text(WIDTH / 2, 22, plot.title, 'middle', 15),
    ...yTicks.flatMap(y => [
      line(LEFT, py(y), WIDTH - RIGHT, py(y), '#dddddd'),
      text(LEFT - 8, py(y) + 4, String(y), 'end'),
    ]),
    ...xTicks
      .filter(x => map(x) <= x1 + 1e-9)
      .map(x => text(px(x), HEIGHT - BOTTOM + 18, String(x), 'middle')),
    text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, plot.xLabel, 'middle'),
    `<text transform="translate(16 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">${escaped(plot.yLabel)}</text>`,
    ...marks.flatMap(({ y, name }) => [
      line(LEFT, py(y), WIDTH - RIGHT, py(y), '#888888', true),
      text(WIDTH - RIGHT + 8, py(y) + 4, name, 'start'),
    ]),
    ...series.flatMap(({ name, points, dashed = false }, index) => {
      const colour = COLOURS[index % COLOURS.length]!
      const path = points.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`).join(' ')
      const legendY = TOP + 16 * index
      return [
        `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="1.8"${dashed ? ' stroke-dasharray="5 4"' : ''}/>`,
        line(WIDTH - RIGHT + 8, legendY, WIDTH - RIGHT + 28, legendY, colour, dashed),
        text(WIDTH - RIGHT + 34, legendY + 4, name, 'start'),
      ]
    }),
    '</svg>',
    '',
  ]
  return parts.join('\n')
}

/** About six round values from `from` to `to` or a little beyond, ascending. */
function niceTicks(from: number, to: number): number[] {
  const rough = (to - from || 1) / (TICKS - 1)
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 2.5, 5, 10].map(factor => factor * power).find(candidate => candidate >= rough)!
  const first = Math.floor(from / step + 1e-9)
  const last = Math.ceil(to / step - 1e-9)
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)))
}

function line(x1: number, y1: number, x2: number, y2: number, colour: string, dashed = false): string {
  const at = `x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}"`
  return `<line ${at} stroke="${colour}"${dashed ? ' stroke-dasharray="5 4"' : ''}/>`
}

function text(x: number, y: number, content: string, anchor: 'start' | 'middle' | 'end', size = 12): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}" font-size="${size}" fill="#222222">${escaped(content)}</text>`
}

function escaped(content: string): string {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
