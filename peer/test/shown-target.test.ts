import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { RouteUnknownError, TargetInvalidError } from '../src/doors/errors.ts'
import { shownTarget } from '../src/shown-target.ts'

for (const [target, shown] of [
  ['/v2/team/app/manifests/v1?token=abc', '/v2/team/app/manifests/v1'],
  ['/v2/team%2Fapp/?x#y', '/v2/team%2Fapp/'],
  ['/urls/https%3A%2F%2Fu%3Ap%40h', '/...'],
  ['/urls/https%253A%252F%252Fu%253Ap%2540h', '/...'],
  ['/urls/https:/u:p@h/x', '/...'],
  ['/x%3Ftoken=abc', '/x'],
  ['http://plain.test:8080/v2/?token=abc', 'http://plain.test:8080'],
  ['HTTP://u:p@[::1]:80/x', 'HTTP://[::1]:80'],
  ['http://u:p@q@h/', 'http://h'],
  ['http://u:12/34@h/', 'http://...'],
  ['http://u:12?34@h/', 'http://...'],
  ['http://u:secret', 'http://...'],
  ['plain.test:443', 'plain.test:443'],
  ['[::1]:443', '[::1]:443'],
  ['u:p@plain.test:443', '...'],
  ['u:secret', '...'],
  ['*', '...'],
  ['', ''],
] as const) {
  test(`shown of ${target}`, () => assert.equal(shownTarget(target), shown))
}

test('whatever a user name and a password are, and however often they are encoded, they are not shown', () => {
  const word = fc.string({
    unit: fc.constantFrom('a', '7', '%', ':', '/', '?', '#', '\\', '@', ' '),
    maxLength: 8,
  })
  const prefix = fc.constantFrom('', '/', '/url/', '/v2/x/')
  fc.assert(
    fc.property(word, word, prefix, fc.nat({ max: 3 }), (user, before, place, times) => {
      let target = `https://${user}:${before}hunter2@host.test/x`
      for (let time = 0; time < times; time++) target = encodeURIComponent(target)
      for (const text of [
        shownTarget(place + target),
        new RouteUnknownError(place + target).message,
        new TargetInvalidError(place + target, 'is wrong').message,
      ]) {
        assert(!text.includes('hunter2'), text)
      }
    }),
    { seed: 7 },
  )
})
