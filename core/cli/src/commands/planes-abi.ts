import { PROFILES } from '@vmplanes/abi-kvm-planes';
import { didYouMean } from '@vmplanes/vmm';
import { abiDiff, isProfile } from '../abi-diff.ts';
import { UsageError } from '../exit-codes.ts';
import { type Outcome, tableText } from '../output.ts';

const profileOf = (name: string): Extract<(typeof PROFILES)[number], string> => {
  if (isProfile(name)) return name;
  const near = didYouMean(name, PROFILES);
  throw new UsageError(`no ABI profile '${name}'`, near ? `did you mean '${near}'?` : `there are: ${PROFILES.join(', ')}`);
};

/** Prints what two published designs of KVM planes say differently. */
export function planesAbiDiff(a: string, b: string): Outcome {
  const [left, right] = [profileOf(a), profileOf(b)];
  const differences = abiDiff(left, right);
  const text = differences.length === 0 ? `${left} and ${right} do not differ` : tableText(['topic', 'what', left, right], differences.map((d) => [d.topic, d.name, d.a, d.b]));
  return { exit: 'Ok', json: { a: left, b: right, differences }, text };
}
