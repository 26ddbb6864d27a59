import { type Profile, SELFTESTS } from '@vmplanes/abi-kvm-planes';
import { describe, expect, it } from 'vitest';
import type { RunnableProfile } from './kit.ts';
import { missingAreas } from './missing-areas.ts';
import { publishedSelftests } from './published-selftests.ts';

const scenarios: Readonly<Record<string, (profile: RunnableProfile) => void>> = { ...publishedSelftests, ...missingAreas };

describe('selftests of KVM planes', () => {
  for (const row of SELFTESTS) {
    for (const [profile, expected] of Object.entries(row.expect) as readonly (readonly [Profile, string])[]) {
      it(`${row.source}: ${row.id} [${profile}] ${row.title}: ${expected}`, () => {
        const scenario = scenarios[row.id];
        expect(scenario, `no scenario for ${row.id}`).toBeDefined();
        scenario!(profile as RunnableProfile);
      });
    }
  }

  it('every scenario belongs to a case of the list', () => {
    expect(Object.keys(scenarios).filter((id) => !SELFTESTS.some((row) => row.id === id))).toEqual([]);
  });
});
