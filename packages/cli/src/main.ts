#!/usr/bin/env node
import { main } from './program.ts'

// Not process.exitCode: libraries leave timers behind that would keep a stopped program for another second.
process.exit(await main(process.argv.slice(2)))
