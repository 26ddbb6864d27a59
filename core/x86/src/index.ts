export * from './state/layout.ts';
export * from './state/registers.ts';
