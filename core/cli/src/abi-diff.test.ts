import { PROFILES } from '@vmplanes/abi-kvm-planes';
import { describe, expect, it } from 'vitest';
import { abiDiff, isProfile } from './abi-diff.ts';

describe('abiDiff', () => {
  it('tells the numbers of the two drafts apart', () => {
    const rows = abiDiff('2025-04', '2026-06');
    expect(rows).toContainEqual(expect.objectContaining({ topic: 'number', name: 'KVM_CREATE_PLANE', a: '0xaed6', b: '0xaee4' }));
    expect(rows).toContainEqual(expect.objectContaining({ topic: 'number', name: 'KVM_EXIT_PLANE_EVENT', a: '40', b: '44' }));
    expect(new Set(rows.map((r) => r.topic))).toEqual(new Set(['observed', 'design', 'number', 'rule', 'layout', 'answer', 'capability', 'dispute']));
  });

  it.each(PROFILES)('finds nothing between %s and itself', (p) => expect(abiDiff(p, p)).toEqual([]));
  it('mirrors', () => {
    const turned = abiDiff('2026-06', '2025-04').map((r) => ({ ...r, a: r.b, b: r.a, source: '' }));
    expect(new Set(turned)).toEqual(new Set(abiDiff('2025-04', '2026-06').map((r) => ({ ...r, source: '' }))));
  });
  it('tells fields apart', () => expect(abiDiff('2025-04', '2026-06')).toContainEqual(expect.objectContaining({ topic: 'layout', name: 'run.plane', a: 'u8 at 0x2', b: '-' })));
  it('knows its profiles', () => expect(['2025-04', '2025', 'vmplanes'].map(isProfile)).toEqual([true, false, true]));
});
