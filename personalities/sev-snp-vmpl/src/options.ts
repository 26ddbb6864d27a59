import { C_BIT, FirmwareStatus, SEV_FEATURES, type SevFeatureName, SnpLevel } from '@vmplanes/abi-sev-snp';
import { HostError, type PlainRecord, type PlainState } from '@vmplanes/engine';
import { checkPolicy } from './launch/policy.ts';
import { PLATFORM_SEED_BYTES, type Tcb } from './psp/platform.ts';

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

const address = (initial: string, about: string): Setting<string> => setting<string>(initial, { type: 'string', pattern: '^0x[0-9a-fA-F]{1,13}$' }, about);

/** Where the built-in SVSM may do as COCONUT-SVSM does rather than as its protocols mean. Each can be chosen alone. @spec coconut-svsm f4bc4bc */
export const svsmDeviations = {
  remapCurrent: 'REMAP_CA to the calling area in use gives INVALID_ADDRESS instead of SUCCESS',
  tpmOversize: 'a TPM response that does not fit is left out and the call gives SUCCESS instead of INVALID_REQUEST',
  attestationCall: 'an unknown attestation call gives UNSUPPORTED_PROTOCOL instead of UNSUPPORTED_CALL',
  attestationOrder: 'the security processor is asked before the buffers are looked at, and certificates need a buffer of exactly 16 KiB',
  runError: 'an error of Run VMPL is not noticed: the provider asks again and again instead of waiting',
  firstEntry: 'a processor enters its guest once before it looks for a call',
  uncheckedPages: 'a page that is not valid or not the guest\'s ends the provider instead of the call',
} as const;
/** The name of a deviation. */
export type SvsmDeviation = keyof typeof svsmDeviations;

const served = SEV_FEATURES.flatMap(({ name, isServed }) => (isServed && name !== 'SnpActive' ? [name] : []));
const names = (initial: readonly SevFeatureName[], about: string): Setting<readonly SevFeatureName[]> => setting(initial, { type: 'array', items: { enum: served }, uniqueItems: true }, about);

const hexOf = (bytes: number, about: string): Setting<string> => setting<string>('', { type: 'string', pattern: `^([0-9a-fA-F]{${2 * bytes}})?$` }, about);
const version = (initial: number): PlainRecord => ({ type: 'integer', minimum: 0, maximum: 255, default: initial });
const initialTcb: Tcb = { fmc: 1, bootLoader: 4, tee: 0, snp: 22, microcode: 213 };

/** Every option. */
const settings = {
  level: choice([SnpLevel.SevSnp, SnpLevel.SevEs, SnpLevel.Sev], 'How much of the guest is hidden from its host: memory, registers, or also which page is whose.'),
  svsm: choice(['none', 'guest', 'builtin'], 'Who is at VMPL0 under a guest of lower privilege: nobody, an image of its own, or the SVSM of this personality.'),
  start: choice(['image', 'reset'], 'What the processors begin with: VMSAs that an image brings, or such as a reset would leave.'),
  features: names([], 'SEV_FEATURES that the VMSAs made at launch carry, beside that of the level.'),
  allowed: names(served, 'SEV_FEATURES that a VMSA may carry; others make its entry fail.'),
  cBit: whole(C_BIT, 32, 51, 'Bit of a page-table entry that makes its page private.'),
  physicalReduction: whole(1, 0, 63, 'Physical address bits that CPUID says the guest loses.'),
  virtualTom: setting<string>('0x0', { type: 'string', pattern: '^0x[0-9a-fA-F]{1,13}$' }, 'Address that divides private from shared pages in VMSAs made at launch, with the feature VirtualTom.'),
  largePages: flag(true, 'The host gives 2 MiB entries of the reverse map table where the guest asks for them.'),
  ghcbVersion: choice([2, 1], 'Highest version of the GHCB protocol; SEV-SNP needs 2.'),
  hypervUsages: flag(false, 'A GHCB may hold a Hyper-V call, where the personality of those calls is configured before this one.'),
  missingCpl: choice(['refuse', 'zero'], 'A VMMCALL through the GHCB without a privilege level: not valid, or from level 0.'),
  refusedAccess: choice(['exit', 'vmpl0'], 'Where an access goes that the permissions of its VMPL refuse: to the VMM, or to VMPL0.'),
  guestVmpl: whole(2, 1, 3, 'VMPL of the guest below an SVSM.'),
  svsmBase: address('0x8000000', 'Where the memory of the built-in SVSM begins: the guest may not touch it.'),
  svsmSize: address('0x1000000', 'Bytes of the memory of the built-in SVSM.'),
  callingArea: address('0x80f000', 'Calling area of the first processor, in guest memory.'),
  firmwareBase: address('0x800000', 'Memory that is valid and of the guest when it begins below the built-in SVSM.'),
  firmwareSize: address('0x10000', 'Bytes of that memory.'),
  secretsPage: address('0x80d000', 'Where in that memory the secrets page of the guest lies.'),
  cpuidPage: address('0x80e000', 'Where in that memory the CPUID page of the guest lies.'),
  vtpm: flag(false, 'The built-in SVSM has a TPM: the guest needs the program swtpm on the host.'),
  svsmApic: flag(false, 'The built-in SVSM offers the APIC protocol.'),
  svsmDeviations: setting<readonly SvsmDeviation[]>([], { type: 'array', items: { enum: Object.keys(svsmDeviations) }, uniqueItems: true }, 'Where the built-in SVSM does as COCONUT-SVSM does rather than as its protocols mean.'),
  svsmBusyEvery: whole(0, 0, 1_000_000, 'For tests of guests: every so many calls the built-in SVSM answers BUSY; 0: never.'),
  svsmIncompleteEvery: whole(0, 0, 511, 'For tests of guests: PVALIDATE answers INCOMPLETE after so many entries; 0: never.'),
  platformSeed: hexOf(PLATFORM_SEED_BYTES, 'Secret that the identity and all keys of the simulated security processor follow from, 48 bytes in hexadecimal. The host makes one up for each machine that is given none.'),
  signing: choice(['none', 'vcek', 'vlek'], 'Key that attestation reports are signed with: none, that of the simulated chip, or one that the host has loaded. Its certificates chain to a root of this machine alone.'),
  reportVersion: choice([3, 2, 4, 5], 'Version of attestation reports.'),
  tcb: setting<Tcb>(initialTcb, { type: 'object', properties: Object.fromEntries(Object.entries(initialTcb).map(([name, n]) => [name, version(n)])), additionalProperties: false }, 'Security versions of the simulated platform.'),
  policy: setting<string>('0x30000', { type: 'string', pattern: '^0x[0-9a-fA-F]{1,16}$' }, 'Policy of a guest that no boot image gives one.'),
  hostData: hexOf(32, 'What the host adds to attestation reports, 32 bytes in hexadecimal; zeroes when empty.'),
  intercepts: setting<readonly OptionalIntercept[]>([], { type: 'array', items: { enum: ['rdtsc', 'rdtscp', 'pause'] }, uniqueItems: true }, 'Instructions that the host intercepts although it need not.'),
};

/** Instructions whose interception is a choice of the host. */
export type OptionalIntercept = 'rdtsc' | 'rdtscp' | 'pause';

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
  if (checkPolicy(BigInt(options.policy)) !== FirmwareStatus.Success) refuse(`the firmware does not accept the policy ${options.policy} (bit 17 is always set)`);
  if (options.svsm !== 'none' && options.level !== 'sev-snp') refuse(`svsm '${options.svsm}' needs the level sev-snp, not ${options.level}`);
  for (const name of ['svsmBase', 'svsmSize', 'callingArea', 'firmwareBase', 'firmwareSize', 'secretsPage', 'cpuidPage'] as const) if (Number(options[name]) % 4096 !== 0) refuse(`${name} ${options[name]} is not a multiple of 4096`);
  if (options.svsm === 'builtin') {
    // It would run the guest again, which would be refused again, and so on without end.
    if (options.refusedAccess === 'vmpl0') refuse('the built-in SVSM does nothing about refused accesses: refusedAccess must be exit');
    const [base, size, area] = [Number(options.svsmBase), Number(options.svsmSize), Number(options.callingArea)];
    if (size === 0) refuse('an SVSM without memory is none: svsmSize is 0');
    const first = Number(options.firmwareBase);
    const end = first + Number(options.firmwareSize);
    if (first < base + size && end > base) refuse(`the memory of the firmware overlaps that of the SVSM`);
    for (const name of ['callingArea', 'secretsPage', 'cpuidPage'] as const) if (Number(options[name]) < first || Number(options[name]) >= end) refuse(`${name} ${options[name]} is not in the memory of the firmware`);
    if (new Set([area, Number(options.secretsPage), Number(options.cpuidPage)]).size < 3) refuse('calling area, secrets page and CPUID page need a page each');
  }
  if (options.ghcbVersion < 2 && options.level === 'sev-snp') refuse('the level sev-snp needs ghcbVersion 2');
  const tooMuch = options.features.find((name) => !options.allowed.includes(name));
  if (tooMuch !== undefined) refuse(`the feature ${tooMuch} is not among those allowed`);
  const early = SEV_FEATURES.find(({ name, worksUnderEs }) => options.features.includes(name) && (options.level === 'sev' || (options.level === 'sev-es' && !worksUnderEs)));
  if (early) refuse(`the feature ${early.name} means nothing at the level ${options.level}`);
  if (options.features.includes('RestrictedInjection') && options.features.includes('AlternateInjection')) refuse('restricted and alternate injection exclude each other');
  if (options.features.includes('VirtualTom') !== (Number(options.virtualTom) !== 0)) refuse('the feature VirtualTom and an address virtualTom go together');
  return options;
};
