import { C_BIT, SEV_FEATURES, type SevFeatureName, SnpLevel } from '@vmplanes/abi-sev-snp';
import { HostError, type PlainRecord, type PlainState } from '@vmplanes/engine';

/** One option: its default, the JSON Schema of its values, and what it is for. */
interface Setting<T> {
  readonly initial: T;
  readonly schema: PlainRecord;
  readonly about: string;
}

const setting = <T>(initial: T, schema: PlainRecord, about: string): Setting<T> => ({ initial, schema, about });
const whole = (initial: number, minimum: number, maximum: number, about: string): Setting<number> => setting(initial, { type: 'integer', minimum, maximum }, about);
const flag = (initial: boolean, about: string): Setting<boolean> => setting(initial, { type: 'boolean' }, about);
/** One of several; the first is the default. */
const choice = <const V extends readonly [PlainState, ...PlainState[]]>(values: V, about: string): Setting<V[number]> => setting<V[number]>(values[0], { enum: values }, about);

const served = SEV_FEATURES.flatMap(({ name, isServed }) => (isServed && name !== 'SnpActive' ? [name] : []));
const names = (initial: readonly SevFeatureName[], about: string): Setting<readonly SevFeatureName[]> => setting(initial, { type: 'array', items: { enum: served }, uniqueItems: true }, about);

/** Every option. */
const settings = {
  level: choice([SnpLevel.SevSnp, SnpLevel.SevEs, SnpLevel.Sev], 'How much of the guest is hidden from its host: memory, registers, or also which page is whose.'),
  svsm: choice(['none', 'guest', 'builtin'], 'Who is at VMPL0 under a guest of lower privilege: nobody, an image of its own, or the SVSM of this personality.'),
  features: names([], 'SEV_FEATURES that the VMSAs made at launch carry, beside that of the level.'),
  allowed: names(served, 'SEV_FEATURES that a VMSA may carry; others make its entry fail.'),
  cBit: whole(C_BIT, 32, 51, 'Bit of a page-table entry that makes its page private.'),
  physicalReduction: whole(1, 0, 63, 'Physical address bits that CPUID says the guest loses.'),
  virtualTom: setting<string>('0x0', { type: 'string', pattern: '^0x[0-9a-fA-F]{1,13}$' }, 'Address that divides private from shared pages in VMSAs made at launch, with the feature VirtualTom.'),
  largePages: flag(true, 'The host gives 2 MiB entries of the reverse map table where the guest asks for them.'),
  refusedAccess: choice(['exit', 'vmpl0'], 'Where an access goes that the permissions of its VMPL refuse: to the VMM, or to VMPL0.'),
  intercepts: setting<readonly OptionalIntercept[]>([], { type: 'array', items: { enum: ['rdtsc', 'rdtscp', 'rdpmc', 'pause'] }, uniqueItems: true }, 'Instructions that the host intercepts although it need not.'),
};

/** Instructions whose interception is a choice of the host. */
export type OptionalIntercept = 'rdtsc' | 'rdtscp' | 'rdpmc' | 'pause';

/** Options of this personality. */
export type SnpOptions = { readonly [K in keyof typeof settings]: (typeof settings)[K]['initial'] };

/** Every option at its default. */
export const defaultOptions: SnpOptions = Object.fromEntries(Object.entries(settings).map(([name, s]) => [name, s.initial])) as SnpOptions;

/** JSON Schema of the options. */
export const optionsSchema: PlainRecord = {
  type: 'object',
  properties: Object.fromEntries(Object.entries<Setting<unknown>>(settings).map(([name, { initial, schema, about }]) => [name, { ...schema, default: initial as PlainState, description: about }])),
  additionalProperties: false,
};

/** Completes options that were checked against {@link optionsSchema}. @throws {HostError} BadConfig when they do not go together. */
export const optionsOf = (given: PlainRecord): SnpOptions => {
  const options = { ...defaultOptions, ...(given as Partial<SnpOptions>) };
  const refuse = (why: string): never => {
    throw new HostError('BadConfig', `sev-snp-vmpl: ${why}`);
  };
  if (options.svsm !== 'none' && options.level !== 'sev-snp') refuse(`svsm '${options.svsm}' needs the level sev-snp, not ${options.level}`);
  const tooMuch = options.features.find((name) => !options.allowed.includes(name));
  if (tooMuch !== undefined) refuse(`the feature ${tooMuch} is not among those allowed`);
  const early = SEV_FEATURES.find(({ name, worksUnderEs }) => options.features.includes(name) && (options.level === 'sev' || (options.level === 'sev-es' && !worksUnderEs)));
  if (early) refuse(`the feature ${early.name} means nothing at the level ${options.level}`);
  if (options.features.includes('RestrictedInjection') && options.features.includes('AlternateInjection')) refuse('restricted and alternate injection exclude each other');
  if (options.features.includes('VirtualTom') !== (Number(options.virtualTom) !== 0)) refuse('the feature VirtualTom and an address virtualTom go together');
  return options;
};
