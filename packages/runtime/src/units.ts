import { DarterError, quoted } from '@darter/oci'

/** Text that should be a size, a duration or a rate and is not. */
export class UnitError extends DarterError {
  readonly code = 'UNIT_INVALID'

  constructor(text: string, expected: string) {
    super(`${quoted(text)} is not ${expected}`)
  }
}

type Units = Readonly<Record<string, number>>

/** Largest first, as formatting wants them. */
const BYTE_UNITS: Units = { TiB: 2 ** 40, GiB: 2 ** 30, MiB: 2 ** 20, KiB: 2 ** 10, B: 1 }
const DURATION_UNITS: Units = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1000, ms: 1 }
const BIT_UNITS: Units = { gbit: 1e9, mbit: 1e6, kbit: 1e3, bit: 1 }

/** What {@link parseBytes} takes, for messages and help. */
export const BYTES_FORM = 'a size such as 512KiB, 256MiB or 1.5GiB (units: B, KiB, MiB, GiB, TiB)'
/** What {@link parseDuration} takes, for messages and help. */
export const DURATION_FORM = 'a duration such as 500ms, 10s, 5m or 1h30m (units: ms, s, m, h, d)'
/** What {@link parseRate} takes, for messages and help. */
export const RATE_FORM =
  'a rate such as 20MiB, 20MiB/s or 100mbit (units: a size, which is meant per second, or bit, kbit, mbit, gbit)'

/** The whole number that `<decimal><unit>` stands for; undefined when it is none or too large to be exact. */
function amount(text: string, units: Units): number | undefined {
  const match = /^(\d{1,16}(?:\.\d{1,9})?)([a-z]*)$/i.exec(text)
  if (match === null) return undefined
  const [, digits, unit] = match
  if (digits === undefined || unit === undefined) return undefined
  const name = Object.keys(units).find(known => known.toLowerCase() === unit.toLowerCase())
  const factor = name === undefined ? undefined : units[name]
  if (factor === undefined) return unit === '' && Number(digits) === 0 ? 0 : undefined
  const value = Number(digits) * factor
  return Number.isSafeInteger(value) ? value : undefined
}

/** The value in the largest unit of which it is a whole multiple, so that parsing gives it back. */
function exact(value: number, units: Units): string {
  const [unit, factor] = Object.entries(units).find(([, size]) => value !== 0 && value % size === 0) ??
    Object.entries(units).at(-1) ?? ['', 1]
  return `${value / factor}${unit}`
}

/**
 * Bytes from text such as `256MiB`. Units are IEC ones, in any case; a fraction must come to whole bytes.
 * @throws {UnitError}
 */
export function parseBytes(text: string): number {
  const bytes = amount(text, BYTE_UNITS)
  if (bytes === undefined) throw new UnitError(text, BYTES_FORM)
  return bytes
}

/** Exact: {@link parseBytes} gives the number back. */
export function formatBytes(bytes: number): string {
  return exact(bytes, BYTE_UNITS)
}

/** For people: three digits and a unit, such as `1.46 GiB`. */
export function approximateBytes(bytes: number): string {
  const [unit, factor] = Object.entries(BYTE_UNITS).find(([, size]) => bytes >= size) ?? ['B', 1]
  const value = bytes / factor
  return `${unit === 'B' || value >= 100 ? Math.round(value) : value.toPrecision(3)} ${unit}`
}

/**
 * Milliseconds from text such as `10s` or `1h30m` (largest unit first, each once).
 * @throws {UnitError}
 */
export function parseDuration(text: string): number {
  const parts = text.match(/\d+(?:\.\d+)?[a-z]*/gi) ?? []
  const amounts = parts.map(part => amount(part, DURATION_UNITS))
  const order = parts.map(part =>
    Object.keys(DURATION_UNITS).indexOf(part.replace(/[\d.]+/, '').toLowerCase()),
  )
  const descending = order.every((unit, i) => i === 0 || unit > (order[i - 1] ?? 0))
  const total = amounts.reduce<number>((sum, part) => sum + (part ?? Number.NaN), 0)
  if (parts.length === 0 || parts.join('') !== text || !descending || !Number.isSafeInteger(total)) {
    throw new UnitError(text, DURATION_FORM)
  }
  return total
}

/** Exact: {@link parseDuration} gives the number back. `ms` is a whole number. */
export function formatDuration(ms: number): string {
  return ms === 0 ? '0s' : exact(ms, DURATION_UNITS)
}

/**
 * Bytes per second from text such as `20MiB` or `20MiB/s`, or `100mbit` (a network's bits, powers of ten).
 * @throws {UnitError}
 */
export function parseRate(text: string): number {
  const bytes = amount(text.endsWith('/s') ? text.slice(0, -2) : text, BYTE_UNITS)
  if (bytes !== undefined) return bytes
  const bits = amount(text, BIT_UNITS)
  if (bits === undefined) throw new UnitError(text, RATE_FORM)
  return Math.round(bits / 8)
}

/** Exact: {@link parseRate} gives the number back. */
export function formatRate(bytesPerSecond: number): string {
  return `${formatBytes(bytesPerSecond)}/s`
}
