// Everything that must hold before a change lands: `npm test` runs it all. --static: only format, lint, types, dead
// code, imports and documents; --unit: only the tests beside the code. Exit code 0 when all of it holds.
import { spawn } from 'node:child_process'
import { globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const bin = join(root, 'node_modules', '.bin')
const node = process.execPath
const env = { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH ?? ''}` }
// A runner that runs inside another one's test would report to it instead of to the terminal.
delete env.NODE_TEST_CONTEXT

const MINUTE = 60_000

const STATIC = [
  { name: 'format', command: ['biome', 'format', '.'], mend: 'npm run format' },
  { name: 'lint', command: ['oxlint'] },
  { name: 'types', command: ['tsc', '-p', '.'] },
  { name: 'dead code', command: ['knip'] },
  // What a room's index offers must have a taker; types are offered to name what its functions take and give.
  { name: 'dead exports', command: ['knip', '--include-entry-exports', '--include', 'exports'] },
  { name: 'imports', command: [node, 'scripts/imports.mjs'] },
  {
    name: 'documents',
    command: [node, 'packages/cli/src/generate-docs.ts', '--check'],
    mend: 'npm run docs',
  },
  { name: 'links', command: [node, 'scripts/links.mjs'] },
]

const TESTS = [
  {
    name: 'unit tests',
    patterns: [
      'scripts/*.test.mjs',
      'packages/*/test/**/*.test.ts',
      'scheduler/test/**/*.test.ts',
      'peer/test/**/*.test.ts',
      'test/sim/**/*.test.ts',
    ],
    concurrency: 2,
    timeoutMs: 2 * MINUTE,
    deadlineMs: 15 * MINUTE,
  },
  // One file at a time: each starts daemons and measures what they do on the machine's two cores.
  {
    name: 'end-to-end tests',
    patterns: ['test/e2e/**/*.test.ts'],
    concurrency: 1,
    timeoutMs: 15 * MINUTE,
    deadlineMs: 60 * MINUTE,
  },
]

/** Runs a command; what it prints is passed on at once, or kept and returned. Past the deadline it is ended. */
function run([command, ...args], { keep, deadlineMs }) {
  return new Promise(resolve => {
    const stdout = keep ? 'pipe' : 'inherit'
    const child = spawn(command, args, { cwd: root, env, stdio: ['ignore', stdout, stdout] })
    let output = ''
    child.stdout?.on('data', data => (output += data))
    child.stderr?.on('data', data => (output += data))
    // The runner limits the time of each test, but waits for ever for a file whose process does not end.
    const timer = setTimeout(() => {
      console.log(`FAILED not over after ${deadlineMs / MINUTE} minutes`)
      child.kill('SIGTERM')
    }, deadlineMs)
    const end = result => {
      clearTimeout(timer)
      resolve(result)
    }
    child.on('error', error => end({ ok: false, output: `${output}${error.message}\n` }))
    child.on('close', code => end({ ok: code === 0, output }))
  })
}

async function checkStatic() {
  let ok = true
  for (const { name, command, mend } of STATIC) {
    const begun = performance.now()
    const result = await run(command, { keep: true, deadlineMs: 5 * MINUTE })
    const seconds = ((performance.now() - begun) / 1000).toFixed(1)
    console.log(`${result.ok ? 'ok    ' : 'FAILED'} ${name} (${seconds} s)`)
    if (!result.ok) {
      console.log(result.output)
      if (mend !== undefined) console.log(`To mend it: ${mend}\n`)
    }
    ok &&= result.ok
  }
  return ok
}

/** What the reporter wrote; nothing of a runner that was ended. */
function readReport(file) {
  const text = readFileSync(file, 'utf8')
  return text === '' ? { tests: 0, skipped: [], empty: [] } : JSON.parse(text)
}

async function runTests({ name, patterns, concurrency, timeoutMs, deadlineMs }) {
  const files = patterns.flatMap(pattern =>
    globSync(pattern, { cwd: root, exclude: path => path.includes('node_modules') }),
  )
  if (files.length === 0) {
    console.log(`FAILED ${name}: there are none`)
    return false
  }
  console.log(`\n${name}: ${files.length} files`)
  const dir = mkdtempSync(join(tmpdir(), 'darter-check-'))
  try {
    const report = join(dir, 'report.json')
    const { ok } = await run(
      [
        node,
        '--test',
        `--test-concurrency=${concurrency}`,
        `--test-timeout=${timeoutMs}`,
        '--test-reporter=spec',
        '--test-reporter-destination=stdout',
        `--test-reporter=${join(root, 'scripts', 'reporter.mjs')}`,
        `--test-reporter-destination=${report}`,
        ...files.toSorted(),
      ],
      { keep: false, deadlineMs },
    )
    const { tests, skipped, empty } = readReport(report)
    const refused = process.env.CI === 'true' ? skipped : []
    if (tests === 0) console.log(`FAILED ${name}: no test ran`)
    for (const file of empty) console.log(`FAILED without a test: ${file}`)
    for (const test of refused) console.log(`FAILED skipped in CI: ${test}`)
    return ok && tests > 0 && empty.length === 0 && refused.length === 0
  } finally {
    rmSync(dir, { recursive: true })
  }
}

const only = process.argv[2]
if (only !== undefined && only !== '--static' && only !== '--unit') {
  console.error(`check: ${only} is not --static or --unit`)
  process.exit(2)
}
const results = []
if (only !== '--unit') results.push(await checkStatic())
if (only !== '--static') {
  for (const tests of TESTS.slice(0, only === '--unit' ? 1 : undefined)) results.push(await runTests(tests))
}
if (results.length > 1) {
  const failed = results.filter(ok => !ok).length
  if (failed > 0) console.log('\nSomething failed: see above.')
}
process.exitCode = results.every(Boolean) ? 0 : 1
