/** Numbers from 0 on that are taken and given back. */
export class Places {
  readonly #count: number
  readonly #free: number[] = []
  #end = 0

  /** `count` of them, those taken already for which `isTaken` says so. */
  constructor(count: number, isTaken: (place: number) => boolean) {
    this.#count = count
    for (let place = 0; place < count; place++) {
      if (!isTaken(place)) continue
      while (this.#end < place) this.#free.push(this.#end++)
      this.#end++
    }
  }

  /** No number from here on was ever taken. */
  get end(): number {
    return this.#end
  }

  /** How many are taken. */
  get taken(): number {
    return this.#end - this.#free.length
  }

  /** One that nobody has; undefined when all are taken. */
  take(): number | undefined {
    return this.#free.pop() ?? (this.#end < this.#count ? this.#end++ : undefined)
  }

  giveBack(place: number): void {
    this.#free.push(place)
  }
}
