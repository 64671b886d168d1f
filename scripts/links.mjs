// Checks the documents: every relative link leads somewhere, headings included, and every file of the tree that is named
// in code marks exists.
import { existsSync, globSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'

const LINK = /\[[^\]]*\]\(([^()\s]+)\)/g
const PATH = /`((?:packages|scheduler|peer|test|scripts|docs)\/[\w./-]+)`/g
const withoutBlocks = text => text.replace(/^```[\s\S]*?^```$/gm, '')

/** The anchors that a page's headings get, as GitHub makes them. */
export function anchorsOf(text) {
  const seen = new Map()
  return new Set(
    [...withoutBlocks(text).matchAll(/^#{1,6} +(.+?) *#*$/gm)].map(([, title]) => {
      const slug = title
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, '')
        .replace(/\s/g, '-')
      const count = seen.get(slug) ?? 0
      seen.set(slug, count + 1)
      return count === 0 ? slug : `${slug}-${count}`
    }),
  )
}

/**
 * What is wrong with a page, one sentence each.
 * @param {string} root
 * @param {string} page path from the root
 */
export function brokenLinks(root, page) {
  const text = readFileSync(join(root, page), 'utf8')
  const found = []
  for (const [, target] of withoutBlocks(text).matchAll(LINK)) {
    if (/^[a-z]+:/.test(target)) continue
    const [path, anchor] = target.split('#')
    const file = path === '' ? join(root, page) : join(root, dirname(page), path)
    if (!existsSync(file)) found.push(`${page}: ${target} leads nowhere`)
    else if (anchor && statSync(file).isFile() && !anchorsOf(readFileSync(file, 'utf8')).has(anchor)) {
      found.push(`${page}: ${target} names no heading of ${relative(root, file)}`)
    }
  }
  for (const [, path] of text.matchAll(PATH)) {
    // What is installed or made by running is not there in a fresh clone.
    const made = path.includes('/node_modules/')
    if (made || !existsSync(join(root, path))) found.push(`${page}: there is no ${path}`)
  }
  return found
}

if (import.meta.main) {
  const root = join(import.meta.dirname, '..')
  const pages = ['README.md', ...globSync('docs/**/*.md', { cwd: root })]
  const found = pages.flatMap(page => brokenLinks(root, page))
  for (const sentence of found) console.error(sentence)
  process.exitCode = found.length === 0 ? 0 : 1
}
