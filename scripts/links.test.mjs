import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { anchorsOf, brokenLinks } from './links.mjs'

let root = ''
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'darter-links-'))
  mkdirSync(join(root, 'docs'))
  writeFileSync(
    join(root, 'docs', 'other.md'),
    '# Other page\n\n## A `code` heading\n\n## Twice\n\n## Twice\n',
  )
})
afterEach(() => rmSync(root, { recursive: true }))

const check = text => {
  writeFileSync(join(root, 'docs', 'page.md'), text)
  return brokenLinks(root, 'docs/page.md')
}

test('links to pages and headings that exist are fine, and so is the web', () => {
  const text =
    '# Own\n[a](other.md) [b](other.md#a-code-heading) [c](other.md#twice-1) [d](#own) [e](https://example.com/x) [f](../docs)\n`docs/other.md`'
  assert.deepEqual(check(text), [])
})

test('what leads nowhere is named', () => {
  assert.match(check('[a](gone.md)').join(), /gone\.md leads nowhere/)
  assert.match(check('[a](other.md#gone)').join(), /names no heading of docs\/other\.md/)
  assert.match(check('[a](#gone)').join(), /names no heading/)
  assert.match(check('see `docs/gone.md`').join(), /there is no docs\/gone\.md/)
})

test('what is not in a fresh clone is not there', () => {
  mkdirSync(join(root, 'docs', 'node_modules'))
  writeFileSync(join(root, 'docs', 'node_modules', 'a.js'), '')
  assert.match(check('see `docs/node_modules/a.js`').join(), /there is no docs\/node_modules/)
})

test('examples are not links, nor are their comments headings', () => {
  assert.deepEqual(check('```sh\n# not a heading\n[a](gone.md)\n```\n'), [])
  assert.deepEqual([...anchorsOf('# One\n```sh\n# two\n```\n')], ['one'])
})
