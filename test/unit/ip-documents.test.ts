/** Addresses as documents: CSV there and back, what NetBox answers, and a prefix drawn. */
import {describe, expect, test} from 'vitest'
import {parseCsv, readDocuments, toCsv} from '../../cli/ip-documents.ts'
import {mapLines, type PrefixMap} from '../../cli/ip-map.ts'
import type {Prefix} from '../../cli/ip-shapes.ts'

describe('CSV', () => {
  const row = {
    cidr: '10.0.0.0/24',
    vrf: 'default',
    status: 'active',
    role: 'public',
    site: null,
    tenant: null,
    gateway: '10.0.0.1',
  }

  test('comes back as it went, commas, quotes and line breaks and all', () => {
    const prefixes = [
      {...row, description: 'a, "b"\nc'},
      {...row, cidr: 'fd00::/64', gateway: null, description: ''},
    ]
    const documents = {vrfs: [], aggregates: [], prefixes, addresses: [], notes: []}
    expect(readDocuments(toCsv(documents, 'prefixes'))).toEqual(documents)
    const addresses = [{address: '10.0.0.5', vrf: 'blue', holder_kind: 'person', holder: 'ada', reason: 'x', tenant: 'acme'}]
    const held = {...documents, prefixes: [], addresses}
    expect(readDocuments(toCsv(held, 'addresses'))).toEqual(held)
  })

  test('runs no formula in a spreadsheet', () => {
    const documents = {vrfs: [], aggregates: [], prefixes: [{...row, description: '=cmd|calc'}], addresses: [], notes: []}
    expect(toCsv(documents, 'prefixes')).toContain(`'=cmd|calc`)
  })

  test('has either end of line, and its heading is NetBox’s or ours', () => {
    expect(parseCsv('a,b\r\n1,"2\r\n3"\n\n4,5')).toEqual([
      ['a', 'b'],
      ['1', '2\r\n3'],
      ['4', '5'],
    ])
    expect(readDocuments('prefix,status\n10.0.0.0/8,Container\n').prefixes).toMatchObject([
      {cidr: '10.0.0.0/8', status: 'container'},
    ])
    expect(readDocuments('address,dns_name\n10.0.0.5/24,web01\n').addresses).toMatchObject([
      {address: '10.0.0.5', holder: 'web01'},
    ])
    expect(() => readDocuments('colour,shape\nred,round')).toThrow('no column')
  })
})

describe('what NetBox answers', () => {
  test('becomes aggregates, VRFs, prefixes and addresses; a prefix that holds others becomes a container', () => {
    const blue = {id: 7, name: 'blue', rd: '65000:1'}
    const documents = readDocuments(
      JSON.stringify([
        {results: [{...blue, description: 'apart'}]},
        {results: [{prefix: '10.0.0.0/8', rir: {name: 'RFC 1918'}, description: ''}]},
        {
          results: [
            {
              prefix: 'fd00:a::/32',
              vrf: blue,
              status: {value: 'active', label: 'Active'},
              role: {name: 'Links'},
              scope: {name: 'AMS'},
            },
            {prefix: 'fd00:a:0:1::/64', vrf: blue, status: {value: 'reserved'}, tenant: {name: 'acme'}},
            {prefix: 'fd00:a:0:1::/64', vrf: null, status: {value: 'active'}},
          ],
        },
        {
          results: [
            {address: 'fd00:a:0:1::5/64', vrf: blue, dns_name: '', assigned_object: {name: 'eth0', device: {name: 'db01'}}},
          ],
        },
        {results: [{weird: true}]},
      ]),
    )
    expect(documents.vrfs).toEqual([{name: 'blue', description: 'apart'}])
    expect(documents.aggregates).toEqual([{cidr: '10.0.0.0/8', vrf: 'default', registry: 'RFC 1918', description: ''}])
    expect(documents.prefixes).toMatchObject([
      {cidr: 'fd00:a::/32', vrf: 'blue', status: 'container', role: 'Links', site: 'AMS'},
      {cidr: 'fd00:a:0:1::/64', vrf: 'blue', status: 'reserved', tenant: 'acme'},
      {cidr: 'fd00:a:0:1::/64', vrf: 'default', status: 'active'},
    ])
    expect(documents.addresses).toMatchObject([{address: 'fd00:a:0:1::5', vrf: 'blue', holder: 'db01'}])
    expect(documents.notes).toEqual(['left out: {"weird":true}', 'fd00:a::/32 holds other prefixes: it becomes a container'])
    expect(() => readDocuments('[1, 2]')).toThrow('neither')
    expect(() => readDocuments('{"a"')).toThrow('no JSON')
  })
})

describe('a prefix drawn', () => {
  const map = (more: Partial<PrefixMap>): PrefixMap => ({
    prefix: {cidr: '10.0.0.0/26', status: 'active'} as Prefix,
    size: 1,
    count: 64,
    cells: [],
    ...more,
  })

  test('shows each address of a small one', () => {
    const cells = [
      {cell: 1, held: 1, cooling: 0},
      {cell: 33, held: 0, cooling: 1},
    ]
    expect(mapLines(map({cells}))).toEqual([
      '10.0.0.0/26, an address a cell: 1 held, 1 cooling',
      ` 10.0.0.0  ·█${'·'.repeat(30)}`,
      `10.0.0.32  ·~${'·'.repeat(30)}`,
      '█ held   ~ cooling   · free',
    ])
  })

  test('shows how full the parts of a large one are', () => {
    const cells = [256, 200, 100, 1].map((held, cell) => ({cell, held, cooling: 0}))
    const [, line] = mapLines(map({prefix: {cidr: '10.0.0.0/16', status: 'container'} as Prefix, size: 256, count: 256, cells}))
    expect(line).toBe(`  10.0.0.0  █▓▒░${'·'.repeat(28)}`)
  })
})
